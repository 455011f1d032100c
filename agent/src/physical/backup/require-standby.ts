import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { openLook } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";

/**
 * What a standby that was promoted refuses the end of a backup with reads like many another refusal, in the server's own
 * language: then it is asked what it is now. Fails with TIMELINE_CHANGED when it is no standby any more, or the signal's
 * reason; returns when `cause` stands for itself.
 */
export async function requireStandby(endpoint: ResolvedEndpoint, cause: unknown, signal: AbortSignal): Promise<void> {
  if (!isFailure(cause, "POSTGRES_REFUSED")) return;
  const isStandby = await askRecovery(endpoint, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    // Whoever cannot be asked has not said that it was promoted.
    if (isFailure(error)) return true;
    throw error;
  });
  if (!isStandby) throw new Failure("TIMELINE_CHANGED", "the standby was promoted during the backup", { cause });
}

async function askRecovery(endpoint: ResolvedEndpoint, signal: AbortSignal): Promise<boolean> {
  await using connection = await openLook(endpoint, { signal });
  return (await connection.queryOne<{ standby: boolean }>("select pg_is_in_recovery() as standby")).standby;
}
