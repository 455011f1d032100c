import { Code, ConnectError } from "@connectrpc/connect";
import { failureToConnectError } from "@coppice/proto/kit/connect-failure";
import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { callFailure } from "./call-failure.ts";

const address = "https://a:1";
const caused = (code: string, status = Code.Internal) =>
  new ConnectError("something", status, undefined, undefined, Object.assign(new Error("x"), { code }));

test("what the server said is kept", () => {
  const told = new Failure("CLUSTER_NOT_FOUND", "there is no cluster x", { hint: "look" });
  expect(callFailure(failureToConnectError(told), address)).toMatchObject({
    reason: "CLUSTER_NOT_FOUND",
    hint: "look",
  });
});

test("a control plane that is away is unreachable, whatever the library calls it", () => {
  const errors = [
    caused("ECONNREFUSED", Code.Unavailable),
    caused("ECONNRESET", Code.Aborted),
    caused("ERR_HTTP2_STREAM_ERROR"),
    new ConnectError("http/2 stream closed with error code CANCEL (0x8)", Code.Canceled),
    new ConnectError("http/2 stream closed with error code INTERNAL_ERROR (0x2)", Code.Internal),
    Object.assign(new Error("x"), { code: "ENOTFOUND" }),
  ];
  for (const error of errors) {
    const failure = callFailure(error, address);
    expect(failure.reason, String(error)).toBe("CONTROL_PLANE_UNREACHABLE");
    expect(failure.message).toContain(address);
  }
});

test("a certificate that is not trusted is told apart from a control plane that is away", () => {
  for (const code of ["SELF_SIGNED_CERT_IN_CHAIN", "ERR_TLS_CERT_ALTNAME_INVALID", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"]) {
    expect(callFailure(caused(code), address).reason, code).toBe("CERTIFICATE_UNTRUSTED");
  }
});

test("our own abort is a cancel", () => {
  const signal = AbortSignal.abort();
  expect(callFailure(new ConnectError("x", Code.Canceled), address, signal).reason).toBe("CANCELLED");
});
