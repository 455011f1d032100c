import { Failure } from "@coppice/proto/kit/failure";
import type { ArchiverState } from "../archiver-state.ts";
import type { Heard } from "./hearing.ts";

/** A server that failed goes on after a minute; then something comes, or it never does. */
const silenceMs = 150_000;

/**
 * Why a server hands over nothing though it is to, which it can tell nobody but its own log: archive_mode is off, its
 * archive_command fails before it comes to the agent, or its archiver does not run it. Undefined while it does, or has
 * nothing to hand over.
 */
export function archiverTrouble(
  { mode, waiting, failedCount, lastFailed, lastArchived }: ArchiverState,
  heard: Heard,
): Failure | undefined {
  if (mode === "off")
    return new Failure("ARCHIVE_MODE_OFF", "archive_mode is off: the server hands out no WAL until it is restarted");
  if (heard.isAnswering) return undefined;
  // It is offered in the order of its name.
  const hasFailed = lastFailed > lastArchived && waiting !== 0;
  if (hasFailed && heard.failedCount !== undefined && failedCount > heard.failedCount)
    return failing(`the server's archive_command fails for ${lastFailed} before it comes to the agent`);
  const isWaiting = waiting === undefined ? hasFailed : waiting > 0;
  if (isWaiting && heard.quietMs > silenceMs)
    return failing("WAL waits in pg_wal, and the server's archiver offers none of it to the agent");
  return undefined;
}

const failing = (message: string) => new Failure("ARCHIVE_COMMAND_FAILING", message);
