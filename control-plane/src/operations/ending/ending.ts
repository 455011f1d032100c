import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { type FailureDetail, FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { countAttempts, endAttempt } from "../../catalog/operations/attempt.ts";
import { changeOperation, type OperationChange } from "../../catalog/operations/change.ts";
import { notifyAgent } from "../../catalog/operations/notify.ts";
import type { OperationRow } from "../../catalog/operations/row.ts";
import { applyChanges } from "../apply.ts";
import { forgetSecret } from "./forget-secret.ts";
import { followChild } from "../group/group.ts";
import type { Applied } from "../kinds/kind.ts";
import { parseSpec, resultToJson } from "../spec.ts";
import { nextState, type OperationEvent } from "../states.ts";

/** How an attempt ended. */
export type Ending =
  /** The agent says how; `isCancelled`: it stopped because it was asked to. */
  | { readonly is: "answered"; readonly applied: Applied; readonly isCancelled: boolean; readonly leavings: string[] }
  /** It is known that nothing came of it and that nothing of it is left. */
  | { readonly is: "void"; readonly failure: FailureDetail; readonly leavings: string[] }
  /** Nobody knows. */
  | { readonly is: "unknown"; readonly failure: FailureDetail };

/** Even what is never repeated after it ran is sent again, so often, when its agent never took it on. */
const retriesBeforeRun = 2;
const retryPause = { baseMs: 1000, capMs: 30_000 };

/**
 * Ends the present attempt of an operation that this transaction has locked, and with it the operation, unless it is
 * tried again or has to be looked after. Success needs an answer with a result and without a failure.
 */
export async function finishAttempt(tx: Database, row: OperationRow, ending: Ending): Promise<OperationRow> {
  const { kind } = parseSpec(row.spec);
  switch (ending.is) {
    case "answered":
      return await finishAnswered(tx, row, ending);
    case "void":
      return await finishVoid(tx, row, ending);
    case "unknown":
      // What changes nothing leaves nothing to look for: its attempt has come to nothing in any case.
      if (kind.settle === "repeat") return await finishVoid(tx, row, { ...ending, is: "void", leavings: [] });
      return await change(tx, row, "lose", ending.failure, {
        commandId: null,
        progress: null,
        stateReason: `attempt ${row.attempt} was cut off (${ending.failure.message}): how it ended is found out by looking`,
      });
  }
}

async function finishAnswered(
  tx: Database,
  row: OperationRow,
  { applied, isCancelled, leavings }: Extract<Ending, { is: "answered" }>,
): Promise<OperationRow> {
  const { result, failure, changes } = applied;
  await applyChanges(tx, row.id, changes);
  const end = {
    endTime: new Date(),
    leavings: [...row.leavings, ...leavings],
    retryAt: null,
    ...(result === undefined ? {} : { result: resultToJson(result) }),
  };
  if (isCancelled) {
    return await change(tx, row, "stop", failure, { ...end, stateReason: "it was cancelled and has stopped" });
  }
  if (failure !== undefined || result === undefined) {
    const why = failure ?? failureToDetail(new Failure("AGENT_ANSWER_INVALID", "the agent gave no result"));
    return await change(tx, row, "fail", why, {
      ...end,
      stateReason: why.message,
      failure: failureToJson(why, row.id),
    });
  }
  return await change(tx, row, "succeed", undefined, { ...end, stateReason: "" });
}

async function finishVoid(
  tx: Database,
  row: OperationRow,
  { failure, leavings }: Extract<Ending, { is: "void" }>,
): Promise<OperationRow> {
  const end = { endTime: new Date(), leavings: [...row.leavings, ...leavings], retryAt: null };
  if (row.cancelTime !== null) {
    const stateReason = "it was cancelled, and nothing came of it";
    return await change(tx, row, "stop", failure, { ...end, stateReason });
  }
  const { kind } = parseSpec(row.spec);
  const { tries } = await countAttempts(tx, row.id);
  const mayRetry = row.startTime === null ? Math.max(retriesBeforeRun, kind.retriesAfterLoss) : kind.retriesAfterLoss;
  if (tries > mayRetry) return await failOperation(tx, { ...row, leavings: end.leavings }, "fail", failure);
  return await change(tx, row, "requeue", failure, {
    stateReason: `nothing came of attempt ${row.attempt} (${failure.message}): it is tried again`,
    commandId: null,
    progress: null,
    leavings: end.leavings,
    retryAt: new Date(Date.now() + backoffMs(tries - 1, retryPause)),
  });
}

/**
 * Fails an operation that this transaction has locked, whatever its agent may still say: `fail` where it is known that
 * nothing came of it, `abandon` where nobody knows.
 */
export async function failOperation(
  tx: Database,
  row: OperationRow,
  event: "fail" | "abandon",
  failure: FailureDetail,
): Promise<OperationRow> {
  return await change(tx, row, event, failure, {
    endTime: new Date(),
    retryAt: null,
    leavings: row.leavings,
    stateReason: failure.message,
    failure: failureToJson(failure, row.id),
  });
}

/** The one place where an attempt ends: the attempt, and the operation's new state, or an error and neither. */
async function change(
  tx: Database,
  row: OperationRow,
  event: OperationEvent,
  failure: FailureDetail | undefined,
  columns: OperationChange,
): Promise<OperationRow> {
  const state = nextState(row.state, event);
  if (state === undefined) throw new Error(`${event} cannot happen to an operation that is ${row.state}`);
  if (row.attempt > 0) {
    const json = failure === undefined ? null : failureToJson(failure, row.id);
    await endAttempt(tx, { operationId: row.id, number: row.attempt, failure: json });
  }
  const changed = await changeOperation(tx, { id: row.id, states: [row.state] }, { ...columns, state });
  if (changed === undefined) throw new Error(`operation ${row.id} changed although it was locked`);
  // Others may have waited for it; and what is tried again or looked after needs the agent.
  if (row.hostId !== null) await notifyAgent(tx, row.hostId);
  await forgetSecret(tx, changed);
  await followChild(tx, changed);
  return changed;
}

/** A failure as the catalog keeps it, with the operation that it belongs to. */
export function failureToJson(failure: FailureDetail, operationId: string): JsonValue {
  return toJson(FailureDetailSchema, { ...failure, operation: operationId });
}
