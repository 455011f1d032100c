import type { Database } from "../../catalog/catalog.ts";
import { appendLogLine } from "../../catalog/operations/log.ts";
import type { OperationRow } from "../../catalog/operations/row.ts";
import type { GroupKind, OperationResult, OperationSpec } from "../kinds/kind.ts";

/** A log holds 1 MB; a line has a failure's message at most. */
const fullBytes = 950_000;

/** Writes a line into the log of a group, which has to be locked. */
export async function logGroup(tx: Database, operationId: string, text: string): Promise<void> {
  await appendLogLine(tx, { operationId, text, fullBytes });
}

/** An operation of a group whose state has just changed, parsed. */
export interface ChangedChild {
  readonly row: OperationRow;
  readonly spec: OperationSpec;
  readonly result: OperationResult | undefined;
}

/**
 * Writes into the log of a group what has happened to one of its operations: to be called in the transaction of the
 * change, the group locked.
 */
export async function logChild(
  tx: Database,
  groupId: string,
  { kind, child: { row, spec, result } }: { readonly kind: GroupKind; readonly child: ChangedChild },
): Promise<void> {
  const what = tell(row, result === undefined ? "" : kind.tellResult(result));
  if (what !== undefined) await logGroup(tx, groupId, `${row.id} (${kind.nameChild(spec)}) ${what}`);
}

function tell({ state, attempt, stateReason }: OperationRow, came: string): string | undefined {
  const told = (text: string) => (text === "" ? "" : `: ${text}`);
  switch (state) {
    case "DISPATCHED":
      return undefined;
    case "RUNNING":
      return attempt === 1 ? "has begun" : `has begun again, attempt ${attempt}`;
    case "SUCCEEDED":
      return `has succeeded${told(came)}`;
    case "FAILED":
      return `has failed${told(stateReason)}`;
    case "CANCELLED":
      return `is cancelled${told(stateReason)}`;
    case "CANCELLING":
      return `is being cancelled${told(stateReason)}`;
    case "INDETERMINATE":
      return `is indeterminate${told(stateReason)}`;
    case "QUEUED":
      return `is queued again${told(stateReason)}`;
  }
}
