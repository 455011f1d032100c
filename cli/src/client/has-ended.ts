import { type Operation, OperationState } from "@coppice/proto/gen/coppice/control/v1/operation";

/** Whether the operation will not change any more. */
export function hasEnded({ state }: Pick<Operation, "state">): boolean {
  return state === OperationState.SUCCEEDED || state === OperationState.FAILED || state === OperationState.CANCELLED;
}
