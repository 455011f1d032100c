import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorFromJsonBytes, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { findTrailerError, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { failureFromConnectError, failureToConnectError } from "@coppice/proto/kit/connect-failure";
import { Failure } from "@coppice/proto/kit/failure";

/** How the library words it when bytes are no message of the method, whatever code it chooses. */
const noMessage = /^(parse (binary|json)|protocol error|cannot decode)\b/i;

/** How the library words it when the other side has ended the call, whatever code that one chose. */
const reset = /^http\/2 stream closed with error code /;

/** The failure that an error of the library or of ours stands for; a request that cannot be read is a wrong request. */
export function readRefusal(error: ConnectError, signal?: AbortSignal): Failure {
  if (reset.test(error.rawMessage)) return new Failure("CANCELLED", "the client has gone", { cause: error });
  if (error.details.length === 0 && noMessage.test(error.rawMessage)) {
    return new Failure(
      "INVALID_FIELD",
      `the request is no message of this method: ${withoutValues(error.rawMessage)}`,
      {
        hint: "compare it with the protos, names of fields included",
        cause: error,
      },
    );
  }
  return failureFromConnectError(error, signal);
}

/** The library repeats what it could not read, and that may be the value of a secret field. */
function withoutValues(message: string): string {
  return message.replace(/, got .*$/s, "").replace(/: (Unexpected|Expected|Bad|Unterminated) .*$/s, ": not JSON");
}

/**
 * The library refuses what it cannot read before any interceptor sees the call, with a bare code. This gives such an
 * answer the FailureDetail that every failure has.
 */
export async function describeRefusal(response: UniversalServerResponse): Promise<UniversalServerResponse> {
  const { status, header, body, trailer } = response;
  if (trailer !== undefined && body !== undefined) return { ...response, body: describeAtEnd(body, trailer) };
  const isBare =
    status !== 200 && header?.get("content-type") === "application/json" && !header.has("content-encoding");
  if (!isBare || body === undefined) return response;
  const bytes = Buffer.concat(await Array.fromAsync(body));
  const bare = errorFromJsonBytes(bytes, undefined, new ConnectError("an answer is no error", Code.Internal));
  if (bare.details.length > 0) return { ...response, body: once(bytes) };
  const described = describe(bare);
  const text = errorToJsonBytes(described, undefined);
  header.set("content-length", String(text.byteLength));
  return { ...response, status: codeToHttpStatus(described.code), body: once(text) };
}

/** In gRPC the refusal is in the trailer, which is there when the body has ended. */
async function* describeAtEnd(body: AsyncIterable<Uint8Array>, trailer: Headers): AsyncGenerator<Uint8Array> {
  yield* body;
  const bare = findTrailerError(trailer);
  if (bare !== undefined && bare.details.length === 0) setTrailerStatus(trailer, describe(bare));
}

function describe(bare: ConnectError): ConnectError {
  return failureToConnectError(readRefusal(bare));
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
