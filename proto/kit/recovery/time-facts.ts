import { recordEnd } from "../wal/record-end.ts";
import { countBelow, type MostWithin, mostWithin } from "../wal/most-within.ts";
import { segmentStart } from "../wal/segment.ts";
import { leadsThrough, type PathPiece } from "./timeline-path.ts";
import type { Anchor, CommitSpan, RecoveryInput } from "./recovery-input.ts";

/** What is known of times along a path, in order of WAL. */
export interface TimeFacts {
  readonly anchors: readonly Anchor[];
  /** Where a timeline is left: at that position the parent may stand still for long while its child goes on. */
  readonly atSwitches: readonly Anchor[];
  readonly commits: readonly CommitSpan[];
  /** The latest time of an anchor, by its position. */
  readonly latestAnchored: MostWithin;
  /** The latest time of a span's commits, by the span's end. */
  readonly latestEnded: MostWithin;
}

/** The anchors and commits that recovery along the path would come by; positions of anchors as `recordEnd` gives them. */
export function timeFacts(input: RecoveryInput, path: readonly PathPiece[]): TimeFacts {
  const onPath = input.anchors
    .map((anchor) => ({ ...anchor, lsn: recordEnd(anchor.lsn, input.segmentBytes) }))
    .filter(({ timeline, lsn }) => leadsThrough(path, timeline, lsn))
    .sort(
      (one, other) => compare(one.lsn, other.lsn) || one.timeline - other.timeline || compare(one.timeUs, other.timeUs),
    );
  const isAtSwitch = ({ timeline, lsn }: Anchor) =>
    path.some((each) => each.timeline === timeline && each.endLsn === lsn);
  const anchors = onPath.filter((anchor) => !isAtSwitch(anchor));
  const commits = (input.commits ?? [])
    .filter(({ timeline, startLsn, endLsn }) => {
      const piece = path.find((each) => each.timeline === timeline);
      if (piece === undefined || startLsn < segmentStart(piece.startLsn, input.segmentBytes)) return false;
      // Of a span that goes beyond a switch nobody knows which commits were before it.
      return endLsn > piece.startLsn && (piece.endLsn === undefined || endLsn <= piece.endLsn);
    })
    .sort((one, other) => compare(one.startLsn, other.startLsn) || compare(one.endLsn, other.endLsn));
  const ended = commits.flatMap(({ endLsn, times }) =>
    times === undefined ? [] : [{ at: endLsn, value: times.latestUs }],
  );
  return {
    anchors,
    atSwitches: onPath.filter(isAtSwitch),
    commits,
    // There may be a week of both, and every backup asks.
    latestAnchored: mostWithin(anchors.map(({ lsn, timeUs }) => ({ at: lsn, value: timeUs }))),
    latestEnded: mostWithin(ended.sort((one, other) => compare(one.at, other.at))),
  };
}

/** Whether everything between is known and holds no commit after that time. */
export function isFreeOfLaterCommits(
  { commits }: TimeFacts,
  startLsn: bigint,
  endLsn: bigint,
  timeUs: bigint,
): boolean {
  let reached = startLsn;
  if (reached >= endLsn) return true;
  for (const span of commits) {
    if (span.endLsn <= startLsn || span.startLsn >= endLsn) continue;
    if (span.times !== undefined && span.times.latestUs > timeUs) return false;
    if (span.startLsn <= reached && span.endLsn > reached) reached = span.endLsn;
  }
  return reached >= endLsn;
}

/** The earliest time that was seen beyond a position: nothing from then on is certain to be before it. */
export function earliestBeyond({ anchors, atSwitches, commits }: TimeFacts, lsn: bigint): bigint | undefined {
  return least([
    ...[...anchors, ...atSwitches].filter((anchor) => anchor.lsn > lsn).map(({ timeUs }) => timeUs),
    ...commits.flatMap(({ startLsn, times }) => (startLsn >= lsn && times !== undefined ? [times.earliestUs] : [])),
  ]);
}

/** The latest time that was seen from a position to before another one; spans that go beyond either do not count. */
export function latestWithin(facts: TimeFacts, startLsn: bigint, endLsn: bigint): bigint | undefined {
  const { commits, latestAnchored } = facts;
  let latest = latestAnchored(startLsn, endLsn - 1n);
  const first = countBelow(commits.length, (index) => (commits[index]?.startLsn ?? startLsn) < startLsn);
  for (let index = first; index < commits.length; index++) {
    const span = commits[index];
    if (span === undefined || span.startLsn >= endLsn) break;
    if (span.endLsn > endLsn || span.times === undefined) continue;
    if (latest === undefined || span.times.latestUs > latest) latest = span.times.latestUs;
  }
  return latest;
}

/**
 * The latest time that was seen before a position. Where a timeline is left the first time counts: the parent may stand
 * still there for long.
 */
export function latestBefore(facts: TimeFacts, lsn: bigint): bigint | undefined {
  const firsts = new Map<bigint, bigint>();
  for (const { lsn: at, timeUs } of facts.atSwitches.filter((anchor) => anchor.lsn <= lsn)) {
    firsts.set(at, least([timeUs, firsts.get(at) ?? timeUs]) ?? timeUs);
  }
  const within = latestWithin(facts, 0n, lsn);
  return greatest([...firsts.values(), ...(within === undefined ? [] : [within])]);
}

/** The greatest of them, where there is one. */
export function greatest(values: readonly bigint[]): bigint | undefined {
  return values.reduce<bigint | undefined>(
    (most, value) => (most === undefined || value > most ? value : most),
    undefined,
  );
}

/** The least of them, where there is one. */
export function least(values: readonly bigint[]): bigint | undefined {
  return values.reduce<bigint | undefined>(
    (most, value) => (most === undefined || value < most ? value : most),
    undefined,
  );
}

function compare(one: bigint, other: bigint): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
