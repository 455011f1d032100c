import { fail } from "@coppice/proto/kit/failure";
import { type AuditedCall, writeAudit } from "../audit/audit.ts";
import type { Database } from "../catalog/catalog.ts";
import { lockOperation } from "../catalog/operations/change.ts";
import { cancelGroup, requestEnd } from "./group/group.ts";
import { kindOf, parseStored } from "./spec.ts";
import { isTerminal } from "./states.ts";

const reasons = {
  queued: "it was cancelled before it was sent",
  sent: "a cancel was asked for; its agent has not answered yet",
};

/**
 * Asks for the end of an operation: a queued one is cancelled at once, any other once its agent has stopped and
 * cleared away. Who cancels one of a group cancels the group, which cannot do without it. Asking twice is asking once.
 * Errors: OPERATION_NOT_FOUND, OPERATION_NOT_CANCELLABLE.
 */
export async function cancelOperation(tx: Database, id: string, call: AuditedCall): Promise<void> {
  const asked = (await lockOperation(tx, id)) ?? fail("OPERATION_NOT_FOUND", `there is no operation ${id}`);
  if (isTerminal(asked.state)) {
    fail("OPERATION_NOT_CANCELLABLE", `${id} has ended: ${asked.state.toLowerCase()}`, { operation: id });
  }
  const row = asked.parentId === null ? asked : await lockOperation(tx, asked.parentId);
  if (row === undefined) throw new Error(`operation ${id} has lost its group`);
  if (row.cancelTime !== null || asked.cancelTime !== null) return;
  const { spec } = parseStored(row.spec);
  if (spec.case !== undefined && kindOf(spec.case).does === "group") await cancelGroup(tx, row);
  else await requestEnd(tx, row, reasons);
  await writeAudit(tx, call, { id, name: asked.kind, operationId: id });
}
