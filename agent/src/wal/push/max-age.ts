import { isFailure } from "@coppice/proto/kit/failure";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { PostgresConnection } from "../../postgres/connect.ts";
import type { ArchiverState } from "./archiver-state.ts";

/** Ends segments that are too old. */
export interface MaxAge {
  /** Looks at where the server is, and ends its segment where that is due. Fails like a query. */
  look(connection: PostgresConnection, state: Pick<ArchiverState, "insertLsn" | "segmentBytes">): Promise<void>;
}

/** A segment's first page header: behind it nothing has been written yet. */
const headerBytes = 40n;

/**
 * Ends a segment that is not full so long after something was first seen in it. The server's own archive_timeout does the
 * same, but one that has just started may sleep past it until its next checkpoint.
 */
export function openMaxAge(maxAgeMs: number): MaxAge {
  let since: { readonly startLsn: bigint; readonly ms: number } | undefined;
  return {
    async look(connection, { insertLsn, segmentBytes }) {
      if (insertLsn === undefined) return;
      const startLsn = segmentStart(insertLsn, segmentBytes);
      if (insertLsn <= startLsn + headerBytes) return void (since = undefined);
      if (since?.startLsn !== startLsn) since = { startLsn, ms: performance.now() };
      if (performance.now() - since.ms < maxAgeMs) return;
      try {
        await connection.query("select pg_switch_wal()");
      } catch (error) {
        // Then archive_timeout is all there is.
        if (!isFailure(error, "PRIVILEGE_MISSING")) throw error;
      }
    },
  };
}
