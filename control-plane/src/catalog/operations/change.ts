import { and, asc, eq, inArray, isNull, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { type OperationStateName, operation } from "../schema/operation.ts";
import { notifyOperation } from "./notify.ts";
import type { FenceValue, OperationRow } from "./row.ts";

/** Columns that a change may set; the revision is set by each. */
export type OperationChange = Partial<
  Pick<
    typeof operation.$inferInsert,
    | "state"
    | "stateReason"
    | "result"
    | "failure"
    | "fenceIncarnation"
    | "fenceNumber"
    | "attempt"
    | "commandId"
    | "command"
    | "progress"
    | "leavings"
    | "startTime"
    | "endTime"
    | "retryAt"
    | "cancelTime"
  >
>;

/** What must still be true of the operation. */
export interface OperationExpectation {
  readonly id: string;
  readonly states: readonly OperationStateName[];
  /** Of the host whose agent does the work; left out where no agent asks. */
  readonly hostId?: string | undefined;
  /** Of its present attempt; left out where no attempt is meant. */
  readonly fence?: FenceValue | undefined;
}

/**
 * Changes an operation by one compare-and-set, tells those who watch it, and gives it as it is now; undefined when it
 * was no longer as expected: then nothing has changed.
 */
export async function changeOperation(
  db: Database,
  { id, states, hostId, fence }: OperationExpectation,
  change: OperationChange,
): Promise<OperationRow | undefined> {
  const [changed] = await db
    .update(operation)
    .set({ ...change, ...movedBy(change), revision: sql`nextval('operation_revision')` })
    .where(
      and(
        eq(operation.id, id),
        inArray(operation.state, [...states]),
        hostId === undefined ? undefined : eq(operation.hostId, hostId),
        fence && eq(operation.fenceIncarnation, fence.incarnation),
        fence && eq(operation.fenceNumber, fence.number),
      ),
    )
    .returning();
  if (changed !== undefined) await notifyOperation(db, id);
  return changed;
}

/** What is told once more, such as to each new session, is no move. */
function movedBy({ progress }: OperationChange) {
  if (progress === undefined) return {};
  const work = sql`${progress === null ? null : JSON.stringify(progress)}::jsonb -> 'work'`;
  const isNew = sql`${operation.progress} -> 'work' is distinct from ${work}`;
  return { progressTime: sql`case when ${isNew} then now() else ${operation.progressTime} end` };
}

/** Operations of a host that have not ended look different when its agent comes or goes: those who watch are told. */
export async function touchOperationsOfHost(tx: Database, hostId: string): Promise<void> {
  const rows = await lockActiveOfHost(tx, hostId);
  for (const id of new Set(rows.flatMap((row) => (row.parentId === null ? [row.id] : [row.id, row.parentId])))) {
    await tx
      .update(operation)
      .set({ revision: sql`nextval('operation_revision')` })
      .where(eq(operation.id, id));
    await notifyOperation(tx, id);
  }
}

/** Operations of the host that have not ended, locked until the transaction ends, as are the groups that they are in. */
export async function lockActiveOfHost(tx: Database, hostId: string): Promise<OperationRow[]> {
  const isActive = and(eq(operation.hostId, hostId), isNull(operation.endTime));
  const parents = tx.select({ id: operation.parentId }).from(operation).where(isActive);
  await tx
    .select({ id: operation.id })
    .from(operation)
    .where(inArray(operation.id, parents))
    .orderBy(asc(operation.id))
    .for("update");
  return tx.select().from(operation).where(isActive).orderBy(asc(operation.id)).for("update");
}

/**
 * The operation, locked until the transaction ends. One of a group is locked after its group, so that whatever happens
 * within a group happens one after the other; whoever locks several of them does it in the order of their ids.
 */
export async function lockOperation(tx: Database, id: string): Promise<OperationRow | undefined> {
  const [found] = await tx.select({ parentId: operation.parentId }).from(operation).where(eq(operation.id, id));
  if (found === undefined) return undefined;
  if (found.parentId !== null) {
    await tx.select({ id: operation.id }).from(operation).where(eq(operation.id, found.parentId)).for("update");
  }
  const [row] = await tx.select().from(operation).where(eq(operation.id, id)).for("update");
  return row;
}

/** The operations of a group that was locked before, in their order, locked until the transaction ends. */
export function lockChildren(tx: Database, parentId: string): Promise<OperationRow[]> {
  return tx.select().from(operation).where(eq(operation.parentId, parentId)).orderBy(asc(operation.id)).for("update");
}

/** The next number for a fence; each is given once. */
export async function nextFenceNumber(db: Database): Promise<bigint> {
  const [row] = await db.execute<{ number: string }>(sql`select nextval('fence_number')::text as number`);
  if (row === undefined) throw new Error("the sequence gave no number");
  return BigInt(row.number);
}
