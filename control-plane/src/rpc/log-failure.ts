import type { Failure } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";

/** Logs a failed call: in a line when it was foreseen, with all that is known when it was not. */
export function logFailure(log: Logger, method: string, failure: Failure): void {
  const { reason, message, code } = failure;
  if (code === "internal" || code === "unknown") log.error({ method, reason, err: failure }, "call failed");
  else log.info({ method, reason, why: message }, "call refused");
}
