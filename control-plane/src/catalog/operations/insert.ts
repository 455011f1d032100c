import { and, count, eq, inArray, isNull, ne, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { backup } from "../schema/backup.ts";
import { operation, operationBackup } from "../schema/operation.ts";
import { notifyAgent, notifyOperation } from "./notify.ts";
import type { OperationRow } from "./row.ts";

/** A new, queued operation. */
export type NewOperation = Pick<
  typeof operation.$inferInsert,
  | "id"
  | "kind"
  | "spec"
  | "hostId"
  | "parentId"
  | "afterId"
  | "clusterId"
  | "repositoryId"
  | "principal"
  | "principalId"
  | "requestId"
  | "requestDigest"
  | "exclusiveKey"
  | "stateReason"
>;

/**
 * Queues an operation; undefined when the principal has used the request id before. A second one with the same
 * exclusive key that has not ended breaks the constraint operation_exclusive: OPERATION_CONFLICT.
 */
export async function insertOperation(tx: Database, row: NewOperation): Promise<OperationRow | undefined> {
  const [inserted] = await tx
    .insert(operation)
    .values(row)
    .onConflictDoNothing({
      target: [operation.principalId, operation.requestId],
      where: sql`${operation.requestId} is not null`,
    })
    .returning();
  if (inserted === undefined) return undefined;
  await notifyOperation(tx, inserted.id);
  if (inserted.hostId !== null) await notifyAgent(tx, inserted.hostId);
  return inserted;
}

/** Leases: the operation uses these backups until it has ended. */
export async function insertLeases(tx: Database, operationId: string, backupIds: readonly string[]): Promise<void> {
  if (backupIds.length === 0) return;
  await tx.insert(operationBackup).values(backupIds.map((backupId) => ({ operationId, backupId })));
}

/** Lets requests of the same id wait for each other until the transaction ends. */
export async function lockRequest(tx: Database, principalId: string, requestId: string): Promise<void> {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`${principalId} ${requestId}`}, 0))`);
}

/** Locks the backups, so that nobody else can lease them meanwhile, and gives those that exist. */
export async function lockBackups(tx: Database, backupIds: readonly string[]): Promise<string[]> {
  if (backupIds.length === 0) return [];
  const rows = await tx
    .select({ id: backup.id })
    .from(backup)
    .where(inArray(backup.id, [...backupIds]))
    .orderBy(backup.id)
    .for("update");
  return rows.map(({ id }) => id);
}

/** Operations that have not ended and use one of the backups, with their kinds. */
export function findLeases(tx: Database, backupIds: readonly string[]): Promise<{ id: string; kind: string }[]> {
  if (backupIds.length === 0) return Promise.resolve([]);
  return tx
    .selectDistinct({ id: operation.id, kind: operation.kind })
    .from(operationBackup)
    .innerJoin(operation, eq(operation.id, operationBackup.operationId))
    .where(and(inArray(operationBackup.backupId, [...backupIds]), isNull(operation.endTime)))
    .orderBy(operation.id);
}

/** The first other operation of the kind that has not ended and works on the same cluster and repository. */
export async function findSameWork(
  tx: Database,
  work: { id: string; kind: string; clusterId: string; repositoryId: string },
): Promise<string | undefined> {
  const [row] = await tx
    .select({ id: operation.id })
    .from(operation)
    .where(
      and(
        eq(operation.kind, work.kind),
        eq(operation.clusterId, work.clusterId),
        eq(operation.repositoryId, work.repositoryId),
        ne(operation.id, work.id),
        isNull(operation.endTime),
      ),
    )
    .orderBy(operation.id)
    .limit(1);
  return row?.id;
}

/** How many operations of the kind a host has to do before it comes to a new one. */
export async function countBefore(tx: Database, work: { kind: string; hostId: string }): Promise<number> {
  const [row] = await tx
    .select({ many: count() })
    .from(operation)
    .where(
      and(
        eq(operation.hostId, work.hostId),
        eq(operation.kind, work.kind),
        inArray(operation.state, ["QUEUED", "DISPATCHED", "RUNNING", "CANCELLING"]),
      ),
    );
  return row?.many ?? 0;
}
