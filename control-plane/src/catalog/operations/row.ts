import type { operation, operationAttempt, operationLog } from "../schema/operation.ts";

/** An operation as the catalog keeps it. */
export type OperationRow = typeof operation.$inferSelect;

/** One try of an operation. */
export type AttemptRow = typeof operationAttempt.$inferSelect;

/** A line of an operation's log. */
export type LogRow = typeof operationLog.$inferSelect;

/** Which attempt may change an operation: compared by incarnation, then by number. */
export interface FenceValue {
  readonly incarnation: bigint;
  readonly number: bigint;
}

/** Whether the operation's present attempt has that fence. */
export function holdsFence(row: OperationRow, fence: FenceValue): boolean {
  return row.fenceIncarnation === fence.incarnation && row.fenceNumber === fence.number;
}
