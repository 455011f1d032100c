import { Code, ConnectError } from "@connectrpc/connect";
import { FailureDetailSchema } from "../gen/coppice/common/v1/failure_pb.js";
import { Failure, failureFromDetail, failureToDetail } from "./failure.ts";
import type { Reason, StatusCode } from "./reasons.ts";

const codes = {
  canceled: Code.Canceled,
  unknown: Code.Unknown,
  invalid_argument: Code.InvalidArgument,
  deadline_exceeded: Code.DeadlineExceeded,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  failed_precondition: Code.FailedPrecondition,
  aborted: Code.Aborted,
  out_of_range: Code.OutOfRange,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
  unavailable: Code.Unavailable,
  data_loss: Code.DataLoss,
  unauthenticated: Code.Unauthenticated,
} satisfies Record<StatusCode, Code>;

const names = new Map(Object.entries(codes).map(([name, code]) => [code, name as StatusCode]));

/** What a status without our detail means: it comes from the library, a proxy or the network, not from Coppice. */
const reasonByCode: Partial<Record<StatusCode, Reason>> = {
  deadline_exceeded: "DEADLINE_EXCEEDED",
  invalid_argument: "INVALID_FIELD",
  permission_denied: "PERMISSION_DENIED",
  resource_exhausted: "MESSAGE_TOO_LARGE",
  unauthenticated: "UNAUTHENTICATED",
  unavailable: "CONTROL_PLANE_UNREACHABLE",
  unimplemented: "METHOD_UNKNOWN",
};

/** The error that an RPC handler throws for a failure: its code, its message, and all of it as a FailureDetail. */
export function failureToConnectError(failure: Failure): ConnectError {
  const detail = { desc: FailureDetailSchema, value: failureToDetail(failure) };
  return new ConnectError(failure.message, codes[failure.code], undefined, [detail], failure.cause);
}

/**
 * The failure that a Connect client's error stands for. `signal` is the call's own: a client of connect-node reports a
 * server that died as Canceled, so without our own abort that is an unreachable control plane.
 */
export function failureFromConnectError(error: unknown, signal?: AbortSignal): Failure {
  if (error instanceof Failure) return error;
  const connectError = ConnectError.from(error);
  const code = names.get(connectError.code) ?? "unknown";
  const [detail] = connectError.findDetails(FailureDetailSchema);
  if (detail) return failureFromDetail(detail, code);
  if (code === "canceled") {
    return signal?.aborted
      ? new Failure("CANCELLED", "it was cancelled", { cause: error })
      : new Failure("CONTROL_PLANE_UNREACHABLE", "the connection to the control plane ended", { cause: error });
  }
  return new Failure(reasonByCode[code] ?? "INTERNAL", connectError.rawMessage, { cause: error });
}
