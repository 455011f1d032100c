import { fail } from "@coppice/proto/kit/failure";
import { type AuditedCall, writeAudit } from "../audit/audit.ts";
import type { Database } from "../catalog/catalog.ts";
import { changeOperation, lockOperation } from "../catalog/operations/change.ts";
import { notifyAgent } from "../catalog/operations/notify.ts";
import type { OperationRow } from "../catalog/operations/row.ts";
import { isTerminal, nextState } from "./states.ts";

/**
 * Asks for the end of an operation: a queued one is cancelled at once, any other once its agent has stopped and
 * cleared away. Asking twice is asking once. Errors: OPERATION_NOT_FOUND, OPERATION_NOT_CANCELLABLE.
 */
export async function cancelOperation(tx: Database, id: string, call: AuditedCall): Promise<OperationRow> {
  const row = (await lockOperation(tx, id)) ?? fail("OPERATION_NOT_FOUND", `there is no operation ${id}`);
  if (isTerminal(row.state)) {
    fail("OPERATION_NOT_CANCELLABLE", `${id} has ended: ${row.state.toLowerCase()}`, { operation: id });
  }
  if (row.cancelTime !== null) return row;
  const now = new Date();
  const event = row.state === "QUEUED" ? "stop" : "requestCancel";
  const state = nextState(row.state, event) ?? fail("OPERATION_NOT_CANCELLABLE", `${id} is ${row.state.toLowerCase()}`);
  const changed = await changeOperation(
    tx,
    { id, states: [row.state] },
    {
      state,
      cancelTime: now,
      ...(state === "CANCELLED"
        ? { endTime: now, retryAt: null, stateReason: "it was cancelled before it was sent" }
        : { stateReason: cancelReason(row) }),
    },
  );
  if (changed === undefined) throw new Error(`operation ${id} changed although it was locked`);
  if (row.hostId !== null) await notifyAgent(tx, row.hostId);
  await writeAudit(tx, call, { id, name: row.kind, operationId: id });
  return changed;
}

function cancelReason({ state, stateReason }: OperationRow): string {
  return state === "INDETERMINATE"
    ? `${stateReason}; it was cancelled and is not tried again`
    : "a cancel was asked for; its agent has not answered yet";
}
