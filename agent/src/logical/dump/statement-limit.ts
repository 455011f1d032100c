import { formatDuration } from "@coppice/proto/kit/duration";
import { Failure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { PostgresConnection } from "../../postgres/connect.ts";

/** Whose statements are limited, and to what. */
export interface StatementLimit {
  /** Of the sessions; nobody else's may be the same. */
  readonly applicationName: string;
  readonly limitMs: number;
  readonly signal: AbortSignal;
}

const mostPauseMs = 5000;

const cancelStatement = `
select pg_cancel_backend(pid) from pg_stat_activity
where application_name = $1 and pid <> pg_backend_pid() and state = 'active'
  and clock_timestamp() - query_start > make_interval(secs => $2)`;

/**
 * Does the work while each statement that takes longer than the limit is cancelled: pg_dump sets statement_timeout to 0
 * whatever it is told, so it is watched from beside. Fails with PROGRAM_FAILED saying so when one was cancelled, else
 * as the work does, or like a query.
 */
export async function withStatementLimit<T>(
  connection: PostgresConnection,
  { applicationName, limitMs, signal }: StatementLimit,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using ending = linkSignals(signal);
  const over = new Failure("CANCELLED", "the work is over");
  let hasCancelled = false;
  async function watch(): Promise<void> {
    for (;;) {
      await sleep(Math.min(mostPauseMs, limitMs / 4), ending.signal);
      const cancelled = await connection.query(cancelStatement, [applicationName, limitMs / 1000]);
      hasCancelled ||= cancelled.length > 0;
    }
  }
  const watching = watch().catch((error: unknown) => ending.abort(error));
  try {
    const done = await work(ending.signal);
    ending.abort(over);
    return done;
  } catch (cause) {
    ending.abort(over);
    if (!hasCancelled || signal.aborted) throw cause;
    const limit = formatDuration(limitMs);
    throw new Failure("PROGRAM_FAILED", `a statement of the dump took longer than ${limit}`, { cause });
  } finally {
    await watching;
  }
}
