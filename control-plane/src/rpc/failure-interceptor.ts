import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { failureToConnectError } from "@coppice/proto/kit/connect-failure";
import { Failure, toFailure } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";
import { catalogFailure } from "../catalog/driver-error.ts";
import { logFailure } from "./log-failure.ts";
import { readRefusal } from "./refusal.ts";

/**
 * Makes every error of a handler a failure that a client can read, and logs it once. What was not foreseen reaches
 * the client as a reference to the log and nothing else.
 */
export function failureInterceptor(log: Logger): Interceptor {
  const report = (method: string, error: unknown, signal: AbortSignal): ConnectError => {
    const failure = read(error, signal);
    logFailure(log, method, failure);
    return failureToConnectError(failure);
  };
  return (next) => async (request) => {
    const method = `${request.service.name}/${request.method.name}`;
    try {
      const response = await next(request);
      if (!response.stream) return response;
      const { message } = response;
      return { ...response, message: guard(message, (error) => report(method, error, request.signal)) };
    } catch (error) {
      throw report(method, error, request.signal);
    }
  };
}

function read(error: unknown, signal: AbortSignal): Failure {
  if (error instanceof ConnectError) return readRefusal(error, signal);
  // A handler that gave up because its call ended tells no more than why that was.
  if (signal.aborted && signal.reason instanceof ConnectError && isAbort(error)) {
    return readRefusal(signal.reason, signal);
  }
  // Nobody reads the answer any more: an agent or a watcher that was killed or cut off.
  if (error instanceof Error && "code" in error && error.code === "ERR_HTTP2_INVALID_STREAM") {
    return new Failure("CANCELLED", "the client has gone", { cause: error });
  }
  return catalogFailure(error) ?? toFailure(error);
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError");
}

/** An error inside a stream passes no `catch` around the call: it comes out of the messages. */
async function* guard<T>(messages: AsyncIterable<T>, report: (error: unknown) => ConnectError): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw report(error);
  }
}
