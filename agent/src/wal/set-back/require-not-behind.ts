import type { WalExtent } from "../store/extent.ts";
import { setBackFailure } from "../../repository/wal/set-back-failure.ts";

/**
 * Refuses a primary whose WAL ends before what is archived of its timeline: it did not write that, and would write other WAL
 * to the same positions. Where the end is not known nothing is refused. Fails with WAL_FOREIGN.
 */
export function requireNotBehind(
  { timeline, lsn }: { readonly timeline: number | undefined; readonly lsn: bigint | undefined },
  last: Pick<WalExtent, "timeline" | "endLsn"> | undefined,
): void {
  if (last === undefined || lsn === undefined || timeline !== last.timeline || lsn >= last.endLsn) return;
  throw setBackFailure(timeline, { lsn, archivedLsn: last.endLsn });
}
