/** What a backup's place in the order is told by. */
export interface Ordered {
  readonly id: string;
  readonly clusterId: string;
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly stopLsn: bigint;
  /** By the clock of who took it. */
  readonly endTime: Date;
}

/**
 * Backups by what they are of, oldest first: servers by when each was seen last, else by when its last backup ended; of
 * one server by timeline and position. Ids tell nothing, as they come from a clock that may have been set back since.
 */
export function orderBackups<T extends Ordered>(
  backups: readonly T[],
  lastSeen: (server: Pick<Ordered, "clusterId" | "systemIdentifier">) => Date | undefined,
): T[] {
  const servers = groups(backups, ({ clusterId, systemIdentifier }) => `${clusterId} ${systemIdentifier}`);
  const placed = servers.map((own) => {
    const [one] = own;
    return { own, seen: (one && lastSeen(one))?.getTime() ?? -1, ended: latestEnd(own) };
  });
  return placed
    .sort((one, other) => one.seen - other.seen || one.ended - other.ended)
    .flatMap(({ own }) => groups(own, ({ timeline }) => timeline).toSorted(compareTimelines))
    .flatMap((own) => own.toSorted(comparePlaces));
}

/** A later timeline is the later one, unless the server went on with the former beside it, and was backed up there since. */
function compareTimelines(one: readonly Ordered[], other: readonly Ordered[]): number {
  const [first, last] = (one[0]?.timeline ?? 0) < (other[0]?.timeline ?? 0) ? [one, other] : [other, one];
  const branched = last.some(({ startLsn }) => first.some(({ stopLsn }) => stopLsn > startLsn));
  const isFirstLater = branched && latestEnd(first) > latestEnd(last);
  return (first === one) === isFirstLater ? 1 : -1;
}

function comparePlaces(one: Ordered, other: Ordered): number {
  const byPlace = compare(one.stopLsn, other.stopLsn) || compare(one.startLsn, other.startLsn);
  return byPlace || one.endTime.getTime() - other.endTime.getTime() || compare(one.id, other.id);
}

function latestEnd(backups: readonly Ordered[]): number {
  return backups.reduce((latest, { endTime }) => Math.max(latest, endTime.getTime()), 0);
}

function groups<T>(values: readonly T[], by: (value: T) => string | number): T[][] {
  return [...Map.groupBy(values, by).values()];
}

function compare<T extends string | bigint>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
