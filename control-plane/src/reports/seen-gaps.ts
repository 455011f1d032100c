/** Gaps in archived WAL as far as this process has seen them. */
export interface SeenGaps {
  /** Notes the gap of a cluster, or that it has none, and gives whether the same one has been there for long enough. */
  note(clusterId: string, gap: string | undefined, now: Date): boolean;
}

/**
 * Has seen none. A gap is to be seen for `patienceMs`: a catalog that was restored from its own backup is told by each agent
 * again what it lacks, and then there is none.
 */
export function openSeenGaps(patienceMs: number): SeenGaps {
  const since = new Map<string, { readonly gap: string; readonly time: Date }>();
  return {
    note(clusterId, gap, now) {
      if (gap === undefined) {
        since.delete(clusterId);
        return false;
      }
      const known = since.get(clusterId);
      const first = known?.gap === gap ? known : { gap, time: now };
      since.set(clusterId, first);
      return now.getTime() - first.time.getTime() >= patienceMs;
    },
  };
}
