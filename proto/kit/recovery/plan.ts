import { formatLsn } from "../wal/lsn.ts";
import { segmentNumber } from "../wal/segment.ts";
import { nearestPoints } from "./nearest-points.ts";
import { coverage, knownTimelines, type Reach, reaches } from "./reach.ts";
import type { RecoveryInput } from "./recovery-input.ts";
import type { PlanWarning, RecoveryPlan, Unreachable } from "./recovery-plan.ts";
import { type Attempt, type ResolvedTarget, resolveTarget } from "./resolve-target.ts";
import type { Target } from "./target.ts";
import { timeFacts } from "./time-facts.ts";
import { leadsThrough, pieceAt, timelinePath } from "./timeline-path.ts";
import { usableChains } from "./usable-chains.ts";
import { type RecoveryWindow, recoveryWindows } from "./windows.ts";

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
    return unreachable(input, asked, "timeline-unknown", `nothing is known of timeline ${timeline}`);
  }
  const restorePoints = new Map(
    input.backups.flatMap(({ restorePoint, stopLsn, systemIdentifier }) =>
      restorePoint === undefined || systemIdentifier !== input.systemIdentifier
        ? []
        : [[restorePoint, stopLsn] as const],
    ),
  );
  const found = reaches(input).filter((reach) => timeline === undefined || reach.timeline === timeline);
  const stray = new Set(found.filter((reach) => strays(input, reach, asked)));
  const attempts = found
    .flatMap((reach) =>
      reach.bases.map((base) => ({ reach, base, target: asked, segmentBytes: input.segmentBytes, restorePoints })),
    )
    .sort((one, other) => Number(stray.has(one.reach)) - Number(stray.has(other.reach)) || compareAttempts(one, other));
  for (const attempt of attempts) {
    const result = resolveTarget(attempt);
    if (result !== undefined) return makePlan(input, attempt, result);
  }
  return explain(input, asked);
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
  const warnings = warnOfNewest(input, { reach, target }, endLsn);
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
      const message = `at that time the server wrote timeline ${other}, which timeline ${reach.timeline} did not grow out of; name it to recover what it was there`;
      warnings.push({ code: "time-of-other-timeline", message });
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

type Followed = Pick<Reach, "path" | "facts" | "timeline">;

/** Whether another timeline was written at the time that is asked for, and this one left it before. */
function strays(input: RecoveryInput, reach: Followed, target: Target): boolean {
  return target.kind === "time" && timelineOfTime(input, reach, target.timeUs) !== undefined;
}

/** The timeline that was written at a time that lies in a switch of this path, if it is not on the path there. */
function timelineOfTime(input: RecoveryInput, { path, facts, timeline }: Followed, timeUs: bigint): number | undefined {
  const isInSwitch = path.some(({ startLsn }) => {
    const before = facts.anchors.findLast(({ lsn }) => lsn <= startLsn);
    const after = facts.anchors.find(({ lsn }) => lsn > startLsn);
    return before !== undefined && before.timeUs < timeUs && after !== undefined && after.timeUs > timeUs;
  });
  if (!isInSwitch) return undefined;
  return knownTimelines(input).find((other) => {
    const off = input.anchors.filter((anchor) => anchor.timeline === other && !leadsThrough(path, other, anchor.lsn));
    return other !== timeline && off.some((each) => each.timeUs <= timeUs) && off.some((each) => each.timeUs >= timeUs);
  });
}

function repositoriesOf({ extents }: RecoveryInput): string[] {
  return [...new Set(extents.map(({ repository }) => repository))];
}

function explain(input: RecoveryInput, target: Target): Unreachable {
  const { bases } = usableChains(input);
  if (bases.length === 0)
    return unreachable(input, target, "no-backup", "no usable physical backup of this server is known");
  if (recoveryWindows(input).length === 0) {
    return unreachable(input, target, "no-backup", "no usable backup has all the WAL from its start to its end");
  }
  const { before, after } = nearestPoints(relevantWindows(input, target), target);
  if (before !== undefined && after !== undefined) {
    return unreachable(input, target, "in-gap", "it lies in a gap between what can be reached");
  }
  if (after !== undefined) {
    return unreachable(input, target, "too-early", "it lies before the end of the first usable backup");
  }
  if (before !== undefined) return unreachable(input, target, "too-late", tooLate(target));
  return unreachable(input, target, "not-known", "no usable backup leads there");
}

function tooLate(target: Target): string {
  return target.kind === "time"
    ? "nothing that is archived is known to reach that time"
    : "what is archived without a gap ends before it";
}

/** The windows that nearest points are looked for in: of the timeline asked for and those that it came from. */
function relevantWindows(input: RecoveryInput, { timeline }: Target): RecoveryWindow[] {
  const windows = recoveryWindows(input);
  if (timeline === undefined) return windows;
  const path = timelinePath(input.histories, timeline).map((piece) => piece.timeline);
  const own = windows.filter((window) => window.timeline === timeline);
  return own.length > 0 ? own : windows.filter((window) => path.includes(window.timeline));
}

function unreachable(
  input: RecoveryInput,
  target: Target,
  reason: Unreachable["reason"],
  message: string,
): Unreachable {
  const { unusable } = usableChains(input);
  return { kind: "unreachable", reason, message, ...nearestPoints(relevantWindows(input, target), target), unusable };
}

function compare<T extends string | bigint>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
