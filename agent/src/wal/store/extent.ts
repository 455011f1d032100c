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

/** Whether a run lies within one of the extents. */
export function isWithin(extents: readonly WalExtent[], { timeline, startLsn, endLsn }: WalExtent): boolean {
  return extents.some((one) => one.timeline === timeline && one.startLsn <= startLsn && endLsn <= one.endLsn);
}

/** The last one of a timeline. */
export function lastOf(extents: readonly WalExtent[], timeline: number): WalExtent | undefined {
  return extents.findLast((extent) => extent.timeline === timeline);
}

/**
 * What is archived without what a queue was stored ahead of its order: nothing behind the first file that still waits and
 * is not archived, in the order of timelines and positions.
 */
export function beforeMissing(extents: readonly WalExtent[], waiting: readonly WalExtent[]): WalExtent[] {
  const missing = waiting.find((run) => !isWithin(extents, run));
  if (missing === undefined) return [...extents];
  return extents.filter(
    ({ timeline, startLsn }) =>
      timeline < missing.timeline || (timeline === missing.timeline && startLsn <= missing.startLsn),
  );
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
