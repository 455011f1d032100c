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
  const servers = Map.groupBy(backups, ({ clusterId, systemIdentifier }) => `${clusterId} ${systemIdentifier}`);
  const placed = [...servers].map(([id, own]) => {
    const [one] = own;
    return { id, own, seen: (one && lastSeen(one))?.getTime() ?? -1, ended: latestEnd(own) };
  });
  return placed
    .sort((one, other) => one.seen - other.seen || one.ended - other.ended || compare(one.id, other.id))
    .flatMap(({ own }) => orderTimelines([...Map.groupBy(own, ({ timeline }) => timeline)].map(toTimeline)))
    .flatMap(({ own }) => own.toSorted(comparePlaces));
}

/** The backups of one timeline of a server. */
interface Timeline<T extends Ordered> {
  readonly timeline: number;
  readonly own: readonly T[];
  readonly firstStart: bigint;
  readonly lastStop: bigint;
  readonly ended: number;
}

function toTimeline<T extends Ordered>([timeline, own]: readonly [number, readonly T[]]): Timeline<T> {
  const starts = own.map(({ startLsn }) => startLsn);
  const stops = own.map(({ stopLsn }) => stopLsn);
  return {
    timeline,
    own,
    firstStart: starts.reduce((first, lsn) => (lsn < first ? lsn : first)),
    lastStop: stops.reduce((last, lsn) => (lsn > last ? lsn : last)),
    ended: latestEnd(own),
  };
}

/**
 * From the last one on, that which none of the others comes after. Of three each may come after another, as clocks decide
 * some pairs only: then that is the last which ended last, so that the order is the same however they came in.
 */
function orderTimelines<T extends Ordered>(timelines: readonly Timeline<T>[]): Timeline<T>[] {
  const ordered: Timeline<T>[] = [];
  let left = timelines.toSorted((one, other) => other.ended - one.ended || other.timeline - one.timeline);
  while (left.length > 0) {
    const last = left.find((one) => left.every((other) => one === other || isLater(one, other))) ?? left[0];
    if (last) ordered.unshift(last);
    left = left.filter((one) => one !== last);
  }
  return ordered;
}

/** A later timeline is the later one, unless the server went on with the former beside it, and was backed up there since. */
function isLater(one: Timeline<Ordered>, other: Timeline<Ordered>): boolean {
  const [first, last] = one.timeline < other.timeline ? [one, other] : [other, one];
  const isFirstLater = first.lastStop > last.firstStart && first.ended > last.ended;
  return (first === one) === isFirstLater;
}

function comparePlaces(one: Ordered, other: Ordered): number {
  const byPlace = compare(one.stopLsn, other.stopLsn) || compare(one.startLsn, other.startLsn);
  return byPlace || one.endTime.getTime() - other.endTime.getTime() || compare(one.id, other.id);
}

function latestEnd(backups: readonly Ordered[]): number {
  return backups.reduce((latest, { endTime }) => Math.max(latest, endTime.getTime()), 0);
}

function compare<T extends string | bigint>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
