import { Failure } from "@coppice/proto/kit/failure";
import { failureFromConnectError } from "@coppice/proto/kit/connect-failure";

const networkCodes =
  /^(?:ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|EHOSTDOWN|ENETUNREACH|ENETDOWN|ERR_HTTP2_.*|ERR_STREAM_.*|ERR_SOCKET_.*)$/;
const certificateCodes = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS_/;
const tlsCodes = /^(?:ERR_SSL_|EPROTO$)/;

/** The errors underneath one another, outermost first. */
function causesOf(error: unknown): Error[] {
  const chain: Error[] = [];
  for (let cause = error; cause instanceof Error && !chain.includes(cause); cause = cause.cause) chain.push(cause);
  return chain;
}

/**
 * The failure behind whatever a call of the control plane threw: what the server said, or what went wrong on the way
 * there, named with the address. `signal` is the call's own.
 */
export function callFailure(error: unknown, address: string, signal?: AbortSignal): Failure {
  const chain = causesOf(error);
  const known = chain.find((cause) => cause instanceof Failure);
  if (known) return known;
  const codes = chain.flatMap((cause) => ("code" in cause && typeof cause.code === "string" ? [cause.code] : []));
  const untrusted = codes.find((code) => certificateCodes.test(code));
  if (untrusted) {
    return new Failure("CERTIFICATE_UNTRUSTED", `the certificate of ${address} is not trusted: ${untrusted}`, {
      hint:
        untrusted === "ERR_TLS_CERT_ALTNAME_INVALID"
          ? "use an address that the control plane was configured with: its certificate names no other"
          : undefined,
      cause: error,
    });
  }
  const trouble = codes.find((code) => networkCodes.test(code) || tlsCodes.test(code));
  const failure = failureFromConnectError(error, signal);
  // A peer that goes away shows as a reset stream, which the library gives many names.
  const isCut = /http\/2|HTTP 5\d\d/i.test(failure.message) && failure.reason === "INTERNAL";
  if (!signal?.aborted && (trouble || isCut || failure.reason === "CONTROL_PLANE_UNREACHABLE")) {
    return new Failure(
      "CONTROL_PLANE_UNREACHABLE",
      `the control plane at ${address} does not answer${trouble ? `: ${trouble}` : ""}`,
      {
        cause: error,
      },
    );
  }
  if (failure.reason === "DEADLINE_EXCEEDED" && failure.hint !== "" && failure.operation === undefined) {
    return new Failure("DEADLINE_EXCEEDED", `the control plane at ${address} did not answer in time`, { cause: error });
  }
  return failure;
}
