import { fail } from "../failure.ts";
import { formatLsn } from "../wal/lsn.ts";
import { mergeRuns } from "./merge-runs.ts";

/** WAL of one timeline of one server, without a hole, in one repository. */
export interface Extent {
  /** rep_…. */
  readonly repository: string;
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  /** First position after it. */
  readonly endLsn: bigint;
}

/**
 * Extents with what was stored since. Runs that overlap or touch become one; the result is sorted, and two extents of
 * the same repository, server and timeline always have a gap between them. Fails with INVALID_FIELD on a run that ends
 * before it begins; an empty one adds nothing.
 */
export function addRuns(extents: readonly Extent[], runs: readonly Extent[]): Extent[] {
  const all = [...extents, ...runs].filter(isNotEmpty);
  return mergeRuns(all, { compare: compareExtents, isSame: isSameArchive });
}

/** Extents without what was lost or deleted; the rest as `addRuns` gives it. */
export function removeRuns(extents: readonly Extent[], runs: readonly Extent[]): Extent[] {
  let left = addRuns(extents, []);
  for (const run of runs.filter(isNotEmpty)) {
    left = left.flatMap((extent) =>
      isSameArchive(extent, run) && extent.startLsn < run.endLsn && run.startLsn < extent.endLsn
        ? [
            { ...extent, endLsn: run.startLsn },
            { ...extent, startLsn: run.endLsn },
          ].filter(({ startLsn, endLsn }) => startLsn < endLsn)
        : [extent],
    );
  }
  return left;
}

/** What lies between two extents of the same repository, server and timeline: WAL that is missing there, sorted. */
export function findGaps(extents: readonly Extent[]): Extent[] {
  const sorted = addRuns(extents, []);
  return sorted.flatMap((extent, index) => {
    const next = sorted[index + 1];
    if (next === undefined || !isSameArchive(extent, next)) return [];
    return [{ ...extent, startLsn: extent.endLsn, endLsn: next.startLsn }];
  });
}

function isNotEmpty({ timeline, startLsn, endLsn }: Extent): boolean {
  if (endLsn < startLsn) {
    fail(
      "INVALID_FIELD",
      `WAL of timeline ${timeline} from ${formatLsn(startLsn)} ends at ${formatLsn(endLsn)} already`,
    );
  }
  return startLsn < endLsn;
}

function isSameArchive(one: Extent, other: Extent): boolean {
  return (
    one.repository === other.repository &&
    one.systemIdentifier === other.systemIdentifier &&
    one.timeline === other.timeline
  );
}

function compareExtents(one: Extent, other: Extent): number {
  return (
    compare(one.repository, other.repository) ||
    compare(one.systemIdentifier, other.systemIdentifier) ||
    one.timeline - other.timeline ||
    compare(one.startLsn, other.startLsn)
  );
}

function compare<T extends string | bigint>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
