import type { StatusCode } from "@coppice/proto/kit/reasons";

/** What the program's exit codes mean; documented, so they never change. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  precondition: 4,
  permission: 5,
  unreachable: 6,
  timedOut: 7,
  partial: 8,
  interrupted: 130,
} as const;

const byStatus: Readonly<Record<StatusCode, number>> = {
  aborted: exitCodes.precondition,
  already_exists: exitCodes.precondition,
  canceled: exitCodes.failed,
  data_loss: exitCodes.failed,
  deadline_exceeded: exitCodes.timedOut,
  failed_precondition: exitCodes.precondition,
  internal: exitCodes.failed,
  invalid_argument: exitCodes.usage,
  not_found: exitCodes.notFound,
  out_of_range: exitCodes.usage,
  permission_denied: exitCodes.permission,
  resource_exhausted: exitCodes.failed,
  unauthenticated: exitCodes.permission,
  unavailable: exitCodes.unreachable,
  unimplemented: exitCodes.failed,
  unknown: exitCodes.failed,
};

/** Exit code of a failure, by the status code of its reason. */
export function exitCodeOf(failure: { readonly code: StatusCode }): number {
  return byStatus[failure.code];
}
