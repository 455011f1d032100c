import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { failureFromConnectError, failureToConnectError } from "./connect-failure.ts";
import { Failure } from "./failure.ts";
import { reasons } from "./reasons.ts";

test("a failure goes through a ConnectError and comes back whole", () => {
  const failure = new Failure("ETAG_MISMATCH", "cluster shop changed meanwhile", { metadata: { cluster: "cls_x" } });
  const error = failureToConnectError(failure);
  expect(error.code).toBe(Code.Aborted);
  expect(Object.entries(failureFromConnectError(error))).toEqual(Object.entries(failure));
});

test("every reason has a status code", () => {
  for (const [reason, { code }] of Object.entries(reasons)) {
    const error = failureToConnectError(new Failure(reason, "x"));
    expect(Code[error.code].toLowerCase()).toBe(code.replaceAll("_", ""));
  }
});

test("Canceled means cancelled only when our own signal was aborted", () => {
  const error = new ConnectError("stream closed", Code.Canceled);
  expect(failureFromConnectError(error).reason).toBe("CONTROL_PLANE_UNREACHABLE");
  expect(failureFromConnectError(error, new AbortController().signal).reason).toBe("CONTROL_PLANE_UNREACHABLE");
  expect(failureFromConnectError(error, AbortSignal.abort()).reason).toBe("CANCELLED");
});

test("a status that is not ours becomes the reason that is nearest", () => {
  expect(failureFromConnectError(new ConnectError("x", Code.Unavailable)).reason).toBe("CONTROL_PLANE_UNREACHABLE");
  expect(failureFromConnectError(new ConnectError("x", Code.Unimplemented)).reason).toBe("METHOD_UNKNOWN");
  expect(failureFromConnectError(new ConnectError("x", Code.DeadlineExceeded)).reason).toBe("DEADLINE_EXCEEDED");
  expect(failureFromConnectError(new ConnectError("x", Code.DataLoss)).reason).toBe("INTERNAL");
});
