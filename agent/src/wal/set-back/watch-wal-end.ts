import { setBackFailure } from "../../repository/wal/set-back-failure.ts";

/** Where the WAL of a primary ends, and on which timeline. */
export interface WalEnd {
  readonly timeline: number;
  readonly lsn: bigint;
}

/**
 * Watches a server that is looked at again and again: what it gives is called with the end of the WAL that is durable on
 * it, and fails with WAL_FOREIGN while that is before what it was on the same timeline.
 */
export function watchWalEnd(): (end: WalEnd) => void {
  let highest: WalEnd | undefined;
  return (end) => {
    if (highest?.timeline === end.timeline && end.lsn < highest.lsn)
      throw setBackFailure(end.timeline, { lsn: end.lsn, archivedLsn: highest.lsn });
    highest = end;
  };
}
