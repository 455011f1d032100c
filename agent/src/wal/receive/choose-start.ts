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
  /** Nobody has relied on the slot yet: what was archived by another way before may have a hole at its end. */
  readonly isSlotNew?: boolean;
  /** The server has no WAL any more that begins there. */
  readonly goneLsn?: bigint | undefined;
}

/** Segments that a queue is stored ahead of its order, and then some. */
const mostAhead = 16n;

/**
 * Where what is archived goes on along the server's own timelines, at the beginning of a segment; undefined when nothing
 * of them is archived that the slot's position follows. Several segments are stored at once, so behind a hole there may
 * be more: what the slot still holds is not left out. A slot that does not begin right there may be another server's: then what
 * was archived last comes once more, to be compared, where the server still has it. Where the slot is new, what the server
 * handed out by itself before may be in its queue yet: then it begins at a hole near the end.
 */
export function chooseStart(
  extents: readonly WalExtent[],
  { timeline, former, segmentBytes, heldLsn, isSlotNew = false, goneLsn }: StartOptions,
): ArchivedStart | undefined {
  const path = timelinePath([{ timeline, ancestors: former }], timeline);
  const own = { repository: "", systemIdentifier: "" };
  const known = { systemIdentifier: "", segmentBytes, extents: extents.map((extent) => ({ ...extent, ...own })) };
  const stretches = coverage(known, path, "").filter(({ startLsn }) => startLsn <= heldLsn);
  const near = (stretches.at(-1)?.endLsn ?? 0n) - mostAhead * segmentBytes;
  const ends = isSlotNew ? stretches.filter(({ endLsn }) => endLsn >= near) : stretches.slice(-1);
  const starts = ends.flatMap(({ endLsn: archivedLsn }) =>
    (heldLsn === archivedLsn ? [archivedLsn] : [archivedLsn - 1n, archivedLsn]).map((within) => {
      const lsn = segmentStart(within, segmentBytes);
      return { timeline: pieceAt(path, within)?.timeline ?? 0, lsn, archivedLsn };
    }),
  );
  return starts.find(({ timeline: found, lsn }) => found > 0 && (goneLsn === undefined || lsn > goneLsn));
}
