import { and, eq, isNull } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { operation } from "./schema/operation.ts";

/** Whether operations that have not ended are about the resource. */
export async function hasActiveOperations(
  db: Database,
  about: { clusterId: string } | { repositoryId: string } | { hostId: string },
): Promise<boolean> {
  const subject =
    "clusterId" in about
      ? eq(operation.clusterId, about.clusterId)
      : "repositoryId" in about
        ? eq(operation.repositoryId, about.repositoryId)
        : eq(operation.hostId, about.hostId);
  const rows = await db
    .select({ id: operation.id })
    .from(operation)
    .where(and(subject, isNull(operation.endTime)))
    .limit(1);
  return rows.length > 0;
}
