import { mergeRuns } from "@coppice/proto/kit/recovery/merge-runs";

/** WAL without a hole: `startLsn` is its first position, `endLsn` the first one after it. */
export interface WalExtent {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly endLsn: bigint;
}

/** Adds a run to extents in the order of timeline and position; what touches or overlaps becomes one, an empty one nothing. */
export function addExtent(extents: readonly WalExtent[], run: WalExtent): WalExtent[] {
  if (run.endLsn <= run.startLsn) return [...extents];
  // By far most runs follow the newest one.
  const last = extents.at(-1);
  if (last && isJoined(last, run) && run.startLsn >= last.startLsn) return [...extents.slice(0, -1), join(last, run)];
  return mergeRuns([...extents, run], {
    compare: (one, two) => one.timeline - two.timeline || compare(one.startLsn, two.startLsn),
    isSame: (one, two) => one.timeline === two.timeline,
  });
}

function isJoined(one: WalExtent, two: WalExtent): boolean {
  return one.timeline === two.timeline && one.startLsn <= two.endLsn && two.startLsn <= one.endLsn;
}

function join(one: WalExtent, two: WalExtent): WalExtent {
  return {
    timeline: one.timeline,
    startLsn: one.startLsn < two.startLsn ? one.startLsn : two.startLsn,
    endLsn: one.endLsn > two.endLsn ? one.endLsn : two.endLsn,
  };
}

function compare(one: bigint, two: bigint): number {
  return one < two ? -1 : one > two ? 1 : 0;
}
