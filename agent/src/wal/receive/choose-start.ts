import { coverage } from "@coppice/proto/kit/recovery/reach";
import type { Ancestor } from "@coppice/proto/kit/recovery/timeline-history";
import { pieceAt, timelinePath } from "@coppice/proto/kit/recovery/timeline-path";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { WalExtent } from "../store/extent.ts";

/** Where a stream begins. */
export interface StreamStart {
  readonly timeline: number;
  readonly lsn: bigint;
}

/** Where a stream begins, and the end of what is archived there, which comes again if it lies behind the beginning. */
export interface ArchivedStart extends StreamStart {
  readonly archivedLsn: bigint;
}

/** What of a server's path decides where to go on. */
export interface StartOptions {
  readonly timeline: number;
  readonly former: readonly Ancestor[];
  readonly segmentBytes: bigint;
  /** The slot keeps everything from there on. */
  readonly heldLsn: bigint;
}

/**
 * Where what is archived goes on along the server's own timelines, at the beginning of a segment; undefined when nothing
 * of them is archived that the slot's position follows. Several segments are stored at once, so behind a hole there may
 * be more: what the slot still holds is not left out. A slot that does not begin right there may be another server's: then what
 * was archived last comes once more, to be compared.
 */
export function chooseStart(
  extents: readonly WalExtent[],
  { timeline, former, segmentBytes, heldLsn }: StartOptions,
): ArchivedStart | undefined {
  const path = timelinePath([{ timeline, ancestors: former }], timeline);
  const own = { repository: "", systemIdentifier: "" };
  const known = { systemIdentifier: "", segmentBytes, extents: extents.map((extent) => ({ ...extent, ...own })) };
  const archivedLsn = coverage(known, path, "").findLast(({ startLsn }) => startLsn <= heldLsn)?.endLsn;
  if (archivedLsn === undefined) return undefined;
  const lsn = heldLsn === archivedLsn ? archivedLsn : archivedLsn - 1n;
  const piece = pieceAt(path, lsn);
  if (piece === undefined) return undefined;
  return { timeline: piece.timeline, lsn: segmentStart(lsn, segmentBytes), archivedLsn };
}
