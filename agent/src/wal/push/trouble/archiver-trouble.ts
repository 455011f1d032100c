import { Failure } from "@coppice/proto/kit/failure";
import type { ArchiverState } from "../archiver-state.ts";

/** After the agent has answered, coppice-wal ends, or offers again, within a moment. */
const marginMs = 5_000;
/** A server that failed goes on after a minute; then something comes, or it never does. */
const silenceMs = 150_000;

/** What came to the socket, in ms since 1970. */
export interface Heard {
  /** Since when somebody could. */
  readonly sinceMs: number;
  /** When the agent last had something to answer; undefined when never. */
  readonly lastMs: number | undefined;
  readonly isAnswering: boolean;
}

/**
 * Why a server hands over nothing though it is to, which it can tell nobody but its own log: archive_mode is off, its
 * archive_command fails before it comes to the agent, or its archiver does not run it. Undefined while it does, or has
 * nothing to hand over.
 */
export function archiverTrouble(state: ArchiverState, heard: Heard, nowMs: number): Failure | undefined {
  const { mode, waiting, lastFailed, lastFailedUs, lastArchivedUs = 0n } = state;
  if (mode === "off")
    return new Failure("ARCHIVE_MODE_OFF", "archive_mode is off: the server hands out no WAL until it is restarted");
  if (heard.isAnswering) return undefined;
  const heardMs = heard.lastMs ?? heard.sinceMs;
  const hasFailed = lastFailedUs !== undefined && lastFailedUs > lastArchivedUs && waiting !== 0;
  if (hasFailed && Number(lastFailedUs / 1000n) > heardMs + marginMs)
    return failing(`the server's archive_command fails for ${lastFailed} before it comes to the agent`);
  const isWaiting = waiting === undefined ? hasFailed : waiting > 0;
  if (isWaiting && nowMs > heardMs + silenceMs)
    return failing("WAL waits in pg_wal, and the server's archiver offers none of it to the agent");
  return undefined;
}

const failing = (message: string) => new Failure("ARCHIVE_COMMAND_FAILING", message);
