import { isFailure } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { ServerEnd } from "../receive/watch-server.ts";
import type { ArchiverState } from "./archiver-state.ts";

/** Ends segments in which something was committed that are too old. */
export interface MaxAge {
  readonly ms: number;
  /** Looks at where the server is, and ends its segment where that is due. Fails like a query. */
  look(connection: PostgresConnection, state: Pick<ArchiverState, "timeline" | "segmentBytes">): Promise<void>;
  /**
   * Where everything ends that has been committed: the beginning of the segment where nothing was in it, else the
   * server's end, which is to be asked for before. Fails like a query.
   */
  committedEnd(connection: PostgresConnection, end: ServerEnd): Promise<bigint>;
}

/** What had been committed before the beginning of a segment. */
interface Archivable {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly transactions: string;
}

/** A segment's first page header: behind it nothing has been written yet. */
const headerBytes = 40n;

/**
 * Ends a segment that is not full so long after something was first committed in it. The server's own archive_timeout does
 * the same, but one that has just started may sleep past it until its next checkpoint. What no transaction wrote is left to
 * it: a server notes which transactions run after each segment that somebody ends, and would never come to rest.
 */
export function openMaxAge(ms: number): MaxAge {
  let known: Archivable | undefined;
  /** Where the server was when that had been committed. */
  let seen: { readonly transactions: string; readonly lsn: bigint } | undefined;
  let since: { readonly startLsn: bigint; readonly ms: number } | undefined;
  let lookedMs: number | undefined;
  return {
    ms,
    async look(connection, { timeline, segmentBytes }) {
      if (timeline === undefined) return;
      // First: what is committed by then lies before the position, and in the segment that is ended.
      const transactions = await readTransactions(connection);
      const beforeMs = lookedMs ?? performance.now();
      lookedMs = performance.now();
      if (known?.timeline === timeline && known.transactions === transactions) return void (since = undefined);
      const now = await connection.queryOne<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
      const lsn = parseLsn(now.lsn);
      const startLsn = segmentStart(lsn, segmentBytes);
      if (seen?.transactions !== transactions) seen = { transactions, lsn };
      if (seen.lsn <= startLsn + headerBytes) {
        known = { timeline, startLsn, transactions };
        return void (since = undefined);
      }
      // It may have been committed just after the look before.
      if (since?.startLsn !== startLsn) since = { startLsn, ms: beforeMs };
      if (performance.now() - since.ms < ms) return;
      try {
        const ended = await connection.queryOne<{ lsn: string }>("select pg_switch_wal()::text as lsn");
        const nextLsn = segmentStart(parseLsn(ended.lsn) + segmentBytes - 1n, segmentBytes);
        known = { timeline, startLsn: nextLsn, transactions };
        since = undefined;
      } catch (error) {
        // Then archive_timeout is all there is.
        if (!isFailure(error, "PRIVILEGE_MISSING")) throw error;
      }
    },
    async committedEnd(connection, { timeline, lsn, segmentBytes }) {
      const transactions = await readTransactions(connection);
      // It may have become known after the server's end.
      const isKnown = known?.timeline === timeline && known.startLsn <= lsn && known.transactions === transactions;
      return isKnown ? segmentStart(lsn, segmentBytes) : lsn;
    },
  };
}

/** Another text once any transaction that writes has begun, is prepared or has ended. */
async function readTransactions(connection: PostgresConnection): Promise<string> {
  const { transactions } = await connection.queryOne<{ transactions: string }>(
    `select pg_current_snapshot()::text || ' ' ||
        array(select transaction::text from pg_prepared_xacts order by 1)::text as transactions`,
  );
  return transactions;
}
