import type { JsonValue } from "@bufbuild/protobuf";
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

/** Specs, as the catalog keeps them, of the operations on a repository that have not ended. */
export async function listActiveSpecs(db: Database, repositoryId: string): Promise<JsonValue[]> {
  const rows = await db
    .select({ spec: operation.spec })
    .from(operation)
    .where(and(eq(operation.repositoryId, repositoryId), isNull(operation.endTime)));
  return rows.map(({ spec }) => spec);
}
