import type { Ancestor } from "@coppice/proto/kit/recovery/timeline-history";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { WalExtent } from "../store/extent.ts";

/** A timeline that the server came through, and where it left it. */
export type FormerTimeline = Pick<Ancestor, "timeline" | "endLsn">;

/** Where a stream begins. */
export interface StreamStart {
  readonly timeline: number;
  readonly lsn: bigint;
}

/**
 * Where what is archived goes on along the server's own timelines, at the beginning of a segment; undefined when nothing
 * of them is archived.
 */
export function chooseStart(
  extents: readonly WalExtent[],
  { timeline, former, segmentBytes }: { timeline: number; former: readonly FormerTimeline[]; segmentBytes: bigint },
): StreamStart | undefined {
  let next = timeline;
  const path = [...former, { timeline, endLsn: undefined }];
  for (const { timeline: on, endLsn: limit } of path.toReversed()) {
    const last = extents.findLast(
      (extent) => extent.timeline === on && extent.endLsn > extent.startLsn && (!limit || extent.startLsn < limit),
    );
    if (last) {
      const isWhole = limit !== undefined && last.endLsn >= limit;
      return isWhole
        ? { timeline: next, lsn: segmentStart(limit, segmentBytes) }
        : { timeline: on, lsn: segmentStart(last.endLsn, segmentBytes) };
    }
    next = on;
  }
  return undefined;
}
