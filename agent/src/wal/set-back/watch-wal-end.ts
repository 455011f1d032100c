import type { WalExtent } from "../store/extent.ts";
import { requireNotBehind } from "./require-not-behind.ts";

/** Where the WAL of a primary ends, and on which timeline. */
export interface WalEnd {
  readonly timeline: number;
  readonly lsn: bigint;
}

/**
 * Watches a server that is looked at again and again: what it gives is called with the end of the WAL that is durable on
 * it, and with the last that was archived before it was asked. It fails with WAL_FOREIGN while the end is before that, or
 * before what it was on the same timeline.
 */
export function watchWalEnd(): (end: WalEnd, archived?: WalExtent) => void {
  let highest: WalEnd | undefined;
  return (end, archived) => {
    requireNotBehind(end, highest && { timeline: highest.timeline, endLsn: highest.lsn });
    requireNotBehind(end, archived);
    highest = end;
  };
}
