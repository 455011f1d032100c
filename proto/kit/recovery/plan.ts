// One thing: which way is taken to a target, and in what it is another one than who asks may expect; both weigh the same ways.
import { formatLsn } from "../wal/lsn.ts";
import { recordEnd } from "../wal/record-end.ts";
import { segmentNumber } from "../wal/segment.ts";
import { nearestPoints } from "./nearest-points.ts";
import { coverage, knownTimelines, type Reach, reaches } from "./reach.ts";
import type { PhysicalBackup, RecoveryInput } from "./recovery-input.ts";
import type { PlanWarning, RecoveryPlan, Unreachable } from "./recovery-plan.ts";
import { type Attempt, type ResolvedTarget, resolveTarget } from "./resolve-target.ts";
import type { Target } from "./target.ts";
import { greatest, least, timeFacts } from "./time-facts.ts";
import { leadsThrough, type PathPiece, pieceAt, timelinePath } from "./timeline-path.ts";
import { unpackedFor, usableChains } from "./usable-chains.ts";
import { type RecoveryWindow, recoveryWindows, windowsOf } from "./windows.ts";

/**
 * How a target is reached: from the backup that leaves least WAL to replay, along the timeline asked for or the latest
 * one that leads there; to a time, along one that was written then where there is one. Or why it is not, with the nearest
 * points that are.
 */
export function planRecovery(input: RecoveryInput, target: Target): RecoveryPlan | Unreachable {
  const asked = incrementEnd(input, target);
  const timelines = knownTimelines(input);
  const { timeline } = asked;
  if (timeline !== undefined && !timelines.includes(timeline)) {
    const windows = recoveryWindows(input);
    const message = `nothing is known of timeline ${timeline}`;
    const known = timelines.toSorted((one, other) => one - other);
    return { ...unreachable(input, { target: asked, windows }, "timeline-unknown", message), timelines: known };
  }
  const restorePoints = new Map(
    input.backups.flatMap(({ restorePoint, stopLsn, systemIdentifier }) =>
      restorePoint === undefined || systemIdentifier !== input.systemIdentifier
        ? []
        : [[restorePoint, stopLsn] as const],
    ),
  );
  const all = reaches(input);
  const found = all.filter((reach) => timeline === undefined || reach.timeline === timeline);
  const stray = new Set(found.filter((reach) => strays(input, reach, asked)));
  const outgrown = outgrownBy(input, found);
  const isLast = ({ reach, base }: Attempt) =>
    Number(asked.kind === "immediate" ? outgrown(base.backup) : stray.has(reach));
  const attempts = found
    .flatMap((reach) =>
      reach.bases.map((base) => ({ reach, base, target: asked, segmentBytes: input.segmentBytes, restorePoints })),
    )
    .sort((one, other) => isLast(one) - isLast(other) || compareAttempts(one, other));
  for (const attempt of attempts) {
    const result = resolveTarget(attempt);
    if (result !== undefined) return makePlan(input, attempt, result);
  }
  return explain(input, { target: asked, windows: windowsOf(input, all) });
}

/** Of a WAL increment, as soon as it is consistent means its restore point; what is unpacked is consistent before. */
function incrementEnd(input: RecoveryInput, target: Target): Target {
  const increment = input.backups.find(({ id, method }) => id === input.backup && method === "wal");
  if (increment === undefined || target.kind !== "immediate") return target;
  const { restorePoint, stopLsn } = increment;
  const timeline = target.timeline ?? increment.timeline;
  if (restorePoint !== undefined) return { kind: "name", name: restorePoint, timeline };
  return { kind: "lsn", lsn: stopLsn, exclusive: true, timeline };
}

/**
 * Whether another of the backups holds all that one does and more: a clock does not tell, for what a standby has may be
 * as of long before.
 */
function outgrownBy({ histories }: RecoveryInput, found: readonly Reach[]): (backup: PhysicalBackup) => boolean {
  const backups = found.flatMap(({ bases }) => bases.map(({ backup }) => backup));
  const newest = [...new Set(backups.map(({ timeline }) => timeline))].map((timeline) => ({
    path: timelinePath(histories, timeline),
    lsn: greatest(backups.filter((backup) => backup.timeline === timeline).map(({ stopLsn }) => stopLsn)) ?? 0n,
  }));
  return ({ timeline, stopLsn }) =>
    newest.some(({ path, lsn }) => lsn > stopLsn && leadsThrough(path, timeline, stopLsn));
}

// Best first.
function compareAttempts(one: Attempt, other: Attempt): number {
  const from = (attempt: Attempt) => attempt.base.backup;
  const stored = ({ base }: Attempt) => base.chain.reduce((sum, { storedBytes }) => sum + storedBytes, 0n);
  const apart = ({ reach, base }: Attempt) => (reach.repository === base.backup.repository ? 0n : 1n);
  const byWal = compare(from(other).startLsn, from(one).startLsn) || compare(from(other).stopLsn, from(one).stopLsn);
  const byCost =
    compare(stored(one), stored(other)) ||
    compare(apart(one), apart(other)) ||
    compare(from(one).repository, from(other).repository) ||
    compare(one.reach.repository ?? "", other.reach.repository ?? "") ||
    compare(from(one).id, from(other).id);
  if (one.target.kind === "immediate") {
    // The backup alone counts; its own timeline is enough, unless its last WAL is in a younger one's first segment.
    const own = ({ reach, base }: Attempt) => (reach.timeline === base.backup.timeline ? 0n : 1n);
    const embedded = ({ reach }: Attempt) => (reach.repository === undefined ? 0n : 1n);
    const newest = compare(from(other).stopTimeUs, from(one).stopTimeUs);
    return newest || byWal || compare(own(one), own(other)) || compare(embedded(one), embedded(other)) || byCost;
  }
  const byTimeline = other.reach.timeline - one.reach.timeline;
  const byEnd = one.target.kind === "latest" ? compare(other.reach.endLsn, one.reach.endLsn) : 0;
  return byTimeline || byEnd || byWal || byCost;
}

function makePlan(input: RecoveryInput, { reach, base, target }: Attempt, result: ResolvedTarget): RecoveryPlan {
  const { backup, chain } = base;
  const { mostLsn } = result;
  const { startLsn } = backup;
  const followed = reach.path.filter(
    (piece) => (piece.endLsn === undefined || piece.endLsn > startLsn) && piece.startLsn < mostLsn,
  );
  const first = segmentNumber(startLsn, input.segmentBytes);
  return {
    ...result,
    kind: "plan",
    chain: chain.map(({ id }) => id),
    repository: backup.repository,
    walRepository: reach.repository,
    backupTimeUs: backup.stopTimeUs,
    timelines: followed.map(({ timeline }) => timeline),
    startLsn,
    segments: segmentNumber(mostLsn - 1n, input.segmentBytes) - first + 1n,
    walBytes: mostLsn - startLsn,
    storedBytes: chain.reduce((sum, { storedBytes }) => sum + storedBytes, 0n),
    warnings: [...result.warnings, ...warnOfWhatIsLeft(input, { reach, target }, result)],
  };
}

function warnOfWhatIsLeft(
  input: RecoveryInput,
  { reach, target }: Pick<Attempt, "reach" | "target">,
  { endLsn }: ResolvedTarget,
): PlanWarning[] {
  const ofNewest = warnOfNewest(input, { reach, target }, endLsn);
  const warnings = ofNewest.length > 0 ? ofNewest : warnOfLivelier(input, { reach, target }, endLsn);
  if (target.kind === "latest") {
    const end = repositoriesOf(input)
      .flatMap((repository) => coverage(input, reach.path, repository))
      .find(({ endLsn }) => endLsn > reach.endLsn);
    if (end !== undefined) {
      const message = `WAL is archived up to ${formatLsn(end.endLsn)}, and there is no way from a backup to what is after ${formatLsn(reach.endLsn)}`;
      warnings.push({ code: "wal-out-of-reach", message });
    }
  }
  if (target.kind === "time" && target.timeline === undefined) {
    const other = timelineOfTime(input, reach, target.timeUs);
    if (other !== undefined) {
      const { timeline, isCertain } = other;
      const when = isCertain
        ? `at that time the server wrote timeline ${timeline}, which timeline ${reach.timeline} did not grow out of; name it to recover what it was there`
        : `at that time the server wrote timeline ${timeline} still, or timeline ${reach.timeline} already, which did not grow out of all of it, and which of them is not known: name one`;
      warnings.push({ code: "time-of-other-timeline", message: when });
    }
  }
  return warnings;
}

/** Where the newest timeline is not the one that is followed, and its end would have been another. */
function warnOfNewest(
  input: RecoveryInput,
  { reach, target }: Pick<Attempt, "reach" | "target">,
  endLsn: bigint | undefined,
): PlanWarning[] {
  const [newest] = knownTimelines(input);
  if (target.timeline !== undefined || target.kind === "immediate") return [];
  if (newest === undefined || newest === reach.timeline) return [];
  const path = timelinePath(input.histories, newest);
  // Up to where they part they are one.
  const last = target.kind === "latest" || endLsn === undefined ? undefined : endLsn - 1n;
  if (last !== undefined && pieceAt(path, last)?.timeline === pieceAt(reach.path, last)?.timeline) return [];
  if (strays(input, { path, facts: timeFacts(input, path), timeline: newest }, target)) {
    const message = `timeline ${reach.timeline} is followed, which was written at that time; the newest one, ${newest}, did not grow out of what was there then`;
    return [{ code: "timeline-of-time", message }];
  }
  const message = `timeline ${reach.timeline} is followed: along the newest one, ${newest}, there is no way there`;
  return [{ code: "timeline-not-followed", message }];
}

/** Where another timeline was written later than the one that is followed: the server went on with that one. */
function warnOfLivelier(
  input: RecoveryInput,
  { reach, target }: Pick<Attempt, "reach" | "target">,
  endLsn: bigint | undefined,
): PlanWarning[] {
  if (target.timeline !== undefined || target.kind === "immediate" || target.kind === "time") return [];
  const last = target.kind === "latest" || endLsn === undefined ? undefined : endLsn - 1n;
  const isOnPath = (timeline: number, lsn: bigint) => leadsThrough(reach.path, timeline, lsn);
  const followedUs = lastWritten(input, (timeline, lsn) => timeline === reach.timeline && isOnPath(timeline, lsn));
  const livelier = knownTimelines(input).find((other) => {
    if (other === reach.timeline) return false;
    const path = timelinePath(input.histories, other);
    if (last !== undefined && pieceAt(path, last)?.timeline === pieceAt(reach.path, last)?.timeline) return false;
    const writtenUs = lastWritten(input, (timeline, lsn) => timeline === other && !isOnPath(timeline, lsn));
    return writtenUs !== undefined && (followedUs === undefined || writtenUs > followedUs);
  });
  if (livelier === undefined) return [];
  const message = `timeline ${reach.timeline} is followed, but the server wrote timeline ${livelier} later, and what it wrote there is not on the way`;
  return [{ code: "timeline-not-followed", message }];
}

/** The latest time that is known of WAL, of those positions. */
function lastWritten(input: RecoveryInput, isOf: (timeline: number, lsn: bigint) => boolean): bigint | undefined {
  const { backups, systemIdentifier, anchors, commits = [], segmentBytes } = input;
  const own = backups.filter((backup) => backup.systemIdentifier === systemIdentifier);
  let latest: bigint | undefined;
  const see = (timeline: number, lsn: bigint, timeUs: bigint) => {
    if ((latest === undefined || timeUs > latest) && isOf(timeline, lsn)) latest = timeUs;
  };
  // One of a standby was written when the standby got it, or before.
  for (const { timeline, stopLsn, stopTimeUs, fromStandby } of own)
    if (fromStandby !== true) see(timeline, stopLsn, stopTimeUs);
  for (const { timeline, lsn, timeUs } of anchors) see(timeline, recordEnd(lsn, segmentBytes), timeUs);
  for (const { timeline, endLsn, times } of commits) if (times) see(timeline, endLsn, times.latestUs);
  return latest;
}

type Followed = Pick<Reach, "path" | "facts" | "timeline">;

/** Whether another timeline was written at the time that is asked for, and this one left it before. */
function strays(input: RecoveryInput, reach: Followed, target: Target): boolean {
  return target.kind === "time" && timelineOfTime(input, reach, target.timeUs) !== undefined;
}

/** A timeline that was written at a time, or may have been. */
interface WrittenThen {
  readonly timeline: number;
  readonly isCertain: boolean;
}

/** The timeline that was written at a time that lies in a switch of this path, if it is not on the path there. */
function timelineOfTime(
  input: RecoveryInput,
  { path, facts, timeline }: Followed,
  timeUs: bigint,
): WrittenThen | undefined {
  const at = path.findIndex(({ startLsn }, index) => index > 0 && isInSwitch(facts, startLsn, timeUs));
  const left = path[at - 1]?.timeline;
  if (left === undefined) return undefined;
  const written = knownTimelines(input).find((other) => {
    const off = other === timeline ? [] : timesOffPath(input, path, other);
    return off.some((us) => us <= timeUs) && off.some((us) => us >= timeUs);
  });
  if (written !== undefined) return { timeline: written, isCertain: true };
  // The timeline that was left there went on: when it did is known here and there alone, or not any more.
  const wentOn = timesOffPath(input, path, left).length > 0 || isArchivedBeyond(input, path, left);
  return wentOn ? { timeline: left, isCertain: false } : undefined;
}

/** Whether WAL of a timeline is archived that is behind what is on that path of it. */
function isArchivedBeyond({ extents, systemIdentifier }: RecoveryInput, path: readonly PathPiece[], left: number) {
  const endLsn = path.find(({ timeline }) => timeline === left)?.endLsn;
  const own = extents.filter((extent) => extent.systemIdentifier === systemIdentifier && extent.timeline === left);
  return endLsn !== undefined && own.some((extent) => extent.endLsn > endLsn);
}

/** Whether a time lies between what is known last of before a position and first of after it. */
function isInSwitch({ anchors, commits }: Followed["facts"], switchLsn: bigint, timeUs: bigint): boolean {
  const timed = commits.flatMap(({ startLsn, endLsn, times }) => (times ? [{ startLsn, endLsn, ...times }] : []));
  const ended = timed.findLast(({ endLsn }) => endLsn <= switchLsn)?.latestUs;
  const begun = timed.find(({ startLsn }) => startLsn >= switchLsn)?.earliestUs;
  // Of what is in one segment with the switch it is not known what came before it: it counts where nothing else does.
  const around = timed.find(({ startLsn, endLsn }) => startLsn < switchLsn && endLsn > switchLsn)?.latestUs;
  const anchored = anchors.findLast(({ lsn }) => lsn <= switchLsn)?.timeUs;
  const beforeUs = greatest([ended, anchored].filter((us) => us !== undefined));
  const afterUs =
    least([begun, anchors.find(({ lsn }) => lsn > switchLsn)?.timeUs].filter((us) => us !== undefined)) ?? around;
  return (beforeUs === undefined || beforeUs < timeUs) && afterUs !== undefined && afterUs > timeUs;
}

/** The times that are known of what was written on a timeline and is not on that path. */
function timesOffPath({ anchors, commits = [] }: RecoveryInput, path: readonly PathPiece[], other: number): bigint[] {
  return [
    ...anchors.flatMap(({ timeline, lsn, timeUs }) =>
      timeline === other && !leadsThrough(path, other, lsn) ? [timeUs] : [],
    ),
    ...commits.flatMap(({ timeline, endLsn, times }) =>
      timeline === other && times !== undefined && !leadsThrough(path, other, endLsn)
        ? [times.earliestUs, times.latestUs]
        : [],
    ),
  ];
}

function repositoriesOf({ extents }: RecoveryInput): string[] {
  return [...new Set(extents.map(({ repository }) => repository))];
}

/** What was asked for, and all that there is. */
interface Asked {
  readonly target: Target;
  readonly windows: readonly RecoveryWindow[];
}

function explain(input: RecoveryInput, asked: Asked): Unreachable {
  const { target, windows } = asked;
  const { bases, unusable } = usableChains(input);
  const named = input.backup === undefined ? undefined : unpackedFor(input, input.backup);
  const defect = unusable.find(({ backup }) => backup === named);
  if (defect && !bases.some(({ backup }) => backup.id === named))
    return unreachable(input, asked, "backup-unusable", `backup ${defect.backup} cannot be used: ${defect.problem}`);
  if (bases.length === 0)
    return unreachable(input, asked, "no-backup", "no usable physical backup of this server is known");
  if (windows.length === 0) {
    return unreachable(input, asked, "no-backup", "no usable backup has all the WAL from its start to its end");
  }
  const { before, after } = nearestPoints(relevantWindows(input, asked), target);
  if (before !== undefined && after !== undefined) {
    return unreachable(input, asked, "in-gap", "it lies in a gap between what can be reached");
  }
  if (after !== undefined) {
    return unreachable(input, asked, "too-early", "it lies before the end of the first usable backup");
  }
  if (before !== undefined) return unreachable(input, asked, "too-late", tooLate(target));
  return unreachable(input, asked, "not-known", "no usable backup leads there");
}

function tooLate(target: Target): string {
  return target.kind === "time"
    ? "nothing that is archived is known to reach that time"
    : "what is archived without a gap ends before it";
}

/** The windows that nearest points are looked for in: of the timeline asked for and those that it came from. */
function relevantWindows(input: RecoveryInput, { target: { timeline }, windows }: Asked): readonly RecoveryWindow[] {
  if (timeline === undefined) return windows;
  const path = timelinePath(input.histories, timeline).map((piece) => piece.timeline);
  const own = windows.filter((window) => window.timeline === timeline);
  return own.length > 0 ? own : windows.filter((window) => path.includes(window.timeline));
}

function unreachable(input: RecoveryInput, asked: Asked, reason: Unreachable["reason"], message: string): Unreachable {
  const { unusable } = usableChains(input);
  return {
    kind: "unreachable",
    reason,
    message,
    ...nearestPoints(relevantWindows(input, asked), asked.target),
    unusable,
  };
}

function compare<T extends string | bigint>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
