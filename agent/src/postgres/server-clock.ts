import { openLook, type PostgresConnection } from "./connect.ts";
import type { ResolvedEndpoint } from "./endpoint.ts";

/** A server's clock, as it was read once: that of its commits, whatever this host's says. */
export interface ServerClock {
  /** When it was read, or a millisecond before. */
  readonly time: Date;
  /** What it shows by now at least, if nobody has set it. */
  later(): Date;
}

/** Reads it. Fails like a query. */
export async function readServerClock(connection: PostgresConnection): Promise<ServerClock> {
  const askedMs = performance.now();
  const { time } = await connection.queryOne<{ time: string }>(
    "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint::text as time",
  );
  const readMs = Number(time);
  return {
    time: new Date(readMs),
    later: () => new Date(Math.ceil(readMs + 1 + performance.now() - askedMs)),
  };
}

/**
 * A time by the server's clock that what was done since the clock was read lies before, also where the clock was set
 * back meanwhile, or the server is out of reach by now.
 */
export async function timeAfter(clock: ServerClock, endpoint: ResolvedEndpoint, signal: AbortSignal): Promise<Date> {
  const gone = clock.later();
  try {
    await using connection = await openLook(endpoint, { signal });
    const now = (await readServerClock(connection)).later();
    return now > gone ? now : gone;
  } catch {
    signal.throwIfAborted();
    return gone;
  }
}
