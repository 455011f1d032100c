import { and, desc, eq, gt, isNull, or } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { operation } from "../schema/operation.ts";

/** Physical backups of a cluster that are under way, and those that the principal began since a time. */
export function findPhysicalBackupWork(
  db: Database,
  { clusterId, principalId, since }: { readonly clusterId: string; readonly principalId: string; readonly since: Date },
): Promise<{ readonly id: string; readonly endTime: Date | null }[]> {
  const isRecent = and(eq(operation.principalId, principalId), gt(operation.createTime, since));
  return db
    .select({ id: operation.id, endTime: operation.endTime })
    .from(operation)
    .where(
      and(
        eq(operation.clusterId, clusterId),
        eq(operation.kind, "create_physical_backup"),
        or(isNull(operation.endTime), isRecent),
      ),
    )
    .orderBy(desc(operation.id));
}
