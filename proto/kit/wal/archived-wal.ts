import { formatLsn } from "./lsn.ts";
import { parseWalFile, segmentStart } from "./segment.ts";

/** A stretch of WAL on one timeline. */
export interface WalStretch {
  readonly timeline: number;
  readonly startLsn: bigint;
  /** First position after it. */
  readonly stopLsn: bigint;
  readonly segmentBytes: bigint;
}

/**
 * Why files of an archive, named in the order of WAL, are not all WAL of a stretch; undefined when they are. Histories
 * may be among them.
 */
export function archivedWalProblem(
  names: readonly string[],
  { timeline, startLsn, stopLsn, segmentBytes }: WalStretch,
): string | undefined {
  let next = segmentStart(startLsn, segmentBytes);
  for (const name of names) {
    const file = parseWalFile(name, segmentBytes);
    if (file?.kind === "history") continue;
    const isPart = file?.kind === "segment" || file?.kind === "partial";
    const endLsn = file?.kind === "partial" ? file.endLsn : next + segmentBytes;
    if (!isPart || endLsn === undefined || file.timeline !== timeline || file.startLsn !== next)
      return `${name} is named where WAL goes on at ${formatLsn(next)}`;
    next = endLsn;
  }
  return next < stopLsn ? `the files that are named end at ${formatLsn(next)}` : undefined;
}
