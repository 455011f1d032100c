import { create } from "@bufbuild/protobuf";
import { type Result, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import { failureToDetail } from "@coppice/proto/kit/failure";
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
