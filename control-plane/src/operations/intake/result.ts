import type { Result } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { FailureDetail } from "@coppice/proto/gen/coppice/common/v1/failure";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { isAttemptOpen } from "../../catalog/operations/attempt.ts";
import { lockOperation } from "../../catalog/operations/change.ts";
import { holdsFence, type OperationRow } from "../../catalog/operations/row.ts";
import { finishAttempt } from "../ending/ending.ts";
import { takeSettlement } from "../settlement.ts";
import { parseSpec } from "../spec.ts";
import { isTerminal } from "../states.ts";

/** What became of a result. */
export type Taken =
  /** The operation has changed by it. */
  | "taken"
  /** It is that of an attempt that has ended already, a repeated one for example. */
  | "old";

/**
 * Takes in how a command ended. Only the result of the operation's present attempt counts; any other one changes
 * nothing. Once this has committed, the agent may forget the result.
 */
export async function takeResult(tx: Database, hostId: string, result: Result): Promise<Taken> {
  const { fence } = result;
  const row = await lockOperation(tx, result.operationId);
  if (row === undefined || row.hostId !== hostId || fence === undefined || isTerminal(row.state)) return "old";
  if (!holdsFence(row, fence) || row.commandId !== result.commandId) return "old";
  if (!(await isAttemptOpen(tx, row.id, row.attempt))) return "old";
  if (row.state === "INDETERMINATE") {
    await takeSettlement(tx, row, result);
    return "taken";
  }
  await takeAnswer(tx, row, result);
  return "taken";
}

async function takeAnswer(tx: Database, row: OperationRow, result: Result): Promise<void> {
  const { failure, cancelled, leavings } = result;
  const { spec, kind } = parseSpec(row.spec);
  const hasResult = result.result.case !== undefined;
  if (failure?.reason === "OUTCOME_UNKNOWN" && !hasResult) {
    await finishAttempt(tx, row, { is: "unknown", failure });
    return;
  }
  if (failure?.reason === "AGENT_STOPPED" && !hasResult) {
    await finishAttempt(tx, row, { is: "void", failure, leavings });
    return;
  }
  const outcome = { result: result.result, failure: failure ?? (cancelled ? cancelledDetail() : undefined) };
  await finishAttempt(tx, row, {
    is: "answered",
    applied: kind.apply(spec, outcome),
    isCancelled: cancelled,
    leavings,
  });
}

function cancelledDetail(): FailureDetail {
  return failureToDetail(new Failure("CANCELLED", "it was cancelled"));
}
