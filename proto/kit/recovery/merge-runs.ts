/** WAL without a hole, of whatever it is. */
export interface Run {
  readonly startLsn: bigint;
  /** First position after it. */
  readonly endLsn: bigint;
}

/**
 * Runs in the order that is given, those that overlap or touch made one; empty ones count for nothing. `compare` has runs
 * of the same archive follow each other in the order of their starts.
 */
export function mergeRuns<Kind extends Run>(
  runs: readonly Kind[],
  { compare, isSame }: { compare: (one: Kind, other: Kind) => number; isSame: (one: Kind, other: Kind) => boolean },
): Kind[] {
  const merged: Kind[] = [];
  for (const run of runs.filter(({ startLsn, endLsn }) => startLsn < endLsn).sort(compare)) {
    const last = merged.at(-1);
    if (last === undefined || !isSame(last, run) || run.startLsn > last.endLsn) merged.push(run);
    else merged[merged.length - 1] = { ...last, endLsn: run.endLsn > last.endLsn ? run.endLsn : last.endLsn };
  }
  return merged;
}
