import type { TimelineHistory } from "./timeline-history.ts";

/** The stretch of WAL that recovery reads on one timeline. */
export interface PathPiece {
  readonly timeline: number;
  readonly startLsn: bigint;
  /** First position that is not on it any more; undefined on the last piece, which has no end. */
  readonly endLsn: bigint | undefined;
}

/**
 * Where recovery towards a timeline goes, oldest piece first; every position lies in exactly one piece. A timeline
 * without a history file began by itself. Recovery that was told to follow a timeline and stopped before it began
 * leaves a history whose later switch lies before the earlier one; PostgreSQL then never enters what lies between,
 * and such timelines are left out here.
 */
export function timelinePath(histories: readonly TimelineHistory[], timeline: number): PathPiece[] {
  const ancestors = histories.find((history) => history.timeline === timeline)?.ancestors ?? [];
  const pieces: PathPiece[] = [];
  let endLsn: bigint | undefined;
  let current = timeline;
  for (const { timeline: parent, endLsn: startLsn } of ancestors.toReversed()) {
    if (endLsn === undefined || startLsn < endLsn) {
      pieces.unshift({ timeline: current, startLsn, endLsn });
      endLsn = startLsn;
    }
    current = parent;
  }
  if (endLsn === undefined || endLsn > 0n) pieces.unshift({ timeline: current, startLsn: 0n, endLsn });
  return pieces;
}

/** The piece that a position lies on. */
export function pieceAt(path: readonly PathPiece[], lsn: bigint): PathPiece | undefined {
  return path.find(({ startLsn, endLsn }) => lsn >= startLsn && (endLsn === undefined || lsn < endLsn));
}

/** Whether everything of a timeline before that position is on the path, and the position itself may be its end. */
export function leadsThrough(path: readonly PathPiece[], timeline: number, lsn: bigint): boolean {
  const piece = path.find((each) => each.timeline === timeline);
  return piece !== undefined && lsn >= piece.startLsn && (piece.endLsn === undefined || lsn <= piece.endLsn);
}
