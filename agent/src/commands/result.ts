import { create, toBinary } from "@bufbuild/protobuf";
import { type Result, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { longestSessionMessage } from "@coppice/proto/kit/session/longest-message";
import type { CommandKey } from "../journal/record.ts";
import type { AnyOutcome } from "./call-handler.ts";

/** How a command came to its end. */
export interface Ending extends AnyOutcome {
  readonly isCancelled?: boolean;
  readonly leavings?: readonly string[];
}

/** The message that says how a command ended; a cancelled one carries no failure. */
export function toResult(key: CommandKey, ending: Ending): Result {
  const { commandId, operationId, attempt, fence } = key;
  const { result, failure, isCancelled: cancelled = false, leavings = [] } = ending;
  return create(ResultSchema, {
    commandId,
    operationId,
    attempt,
    fence,
    cancelled,
    leavings: [...leavings],
    ...(failure === undefined || cancelled ? {} : { failure: failureToDetail(failure) }),
    ...(result === undefined ? {} : { result }),
  });
}

/** What the message around a result takes, and more. */
const aroundBytes = 1024 * 1024;
const mostLeavings = 1000;

/**
 * The result, or in the place of one that the control plane does not take, as it is too large, a failure that says so: told
 * as it is, it would end each session that it is told to.
 */
export function tellable(result: Result): Result {
  const { length } = toBinary(ResultSchema, result);
  const most = longestSessionMessage - aroundBytes;
  if (length <= most) return result;
  const what = result.result.case ?? "the command";
  const failure = new Failure("RESULT_TOO_LARGE", `the result of ${what} is ${length} bytes long, more than ${most}`);
  const { commandId, operationId, attempt, fence, leavings } = result;
  return create(ResultSchema, {
    commandId,
    operationId,
    attempt,
    fence,
    leavings: leavings.slice(0, mostLeavings),
    failure: failureToDetail(failure),
  });
}
