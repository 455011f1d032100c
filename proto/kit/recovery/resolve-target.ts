// One thing: how each kind of target is decided within one stretch of WAL, from one backup; the cases share their rules
// about what ends recovery and what is certain then.
import { formatLsn } from "../wal/lsn.ts";
import { recordEnd } from "../wal/record-end.ts";
import type { PlanWarning, RecoveryPlan } from "./recovery-plan.ts";
import { baseTimes, type Reach } from "./reach.ts";
import type { Target } from "./target.ts";
import { earliestBeyond, isFreeOfLaterCommits, latestBefore, least } from "./time-facts.ts";
import type { Base } from "./usable-chains.ts";

/** How a target is reached from a base, and what is certain then. */
export type ResolvedTarget = Pick<
  RecoveryPlan,
  "serverTarget" | "endLsn" | "leastLsn" | "mostLsn" | "completeUntilUs" | "walEndLsn" | "warnings"
>;

/** A target, a base to reach it from, and what else decides. */
export interface Attempt {
  readonly reach: Reach;
  readonly base: Base;
  readonly target: Target;
  readonly segmentBytes: bigint;
  /** Restore points whose place is known. */
  readonly restorePoints: ReadonlyMap<string, bigint>;
}

const unknownPosition = "nobody knows where";
const unknownTime = "nobody knows until when";
const unknownLater = "no commit after that time is known of:";

/** Whether what a plan warned of is settled once a server has come to its target. */
export function isSettledByRecovery(warning: string): boolean {
  return [unknownPosition, unknownTime, unknownLater].some((beginning) => warning.startsWith(`${beginning} `));
}

/** How the target is reached; undefined when it is not, from this base through this WAL. */
export function resolveTarget(attempt: Attempt): ResolvedTarget | undefined {
  const { reach, base, target } = attempt;
  const timeline = reach.timeline;
  const { stopLsn } = base.backup;
  switch (target.kind) {
    case "immediate":
      return resolved(attempt, { serverTarget: { kind: "immediate", timeline }, endLsn: stopLsn });
    case "latest": {
      // Of a standby's own WAL all is replayed: it may have nothing to stop at, and would end without a server.
      const isAll = reach.repository !== undefined || base.backup.fromStandby === true;
      const kind = isAll ? "latest" : "immediate";
      return resolved(attempt, { serverTarget: { kind, timeline }, endLsn: reach.endLsn });
    }
    case "lsn":
      return resolveLsn(attempt, target.lsn, target.exclusive ?? false);
    case "time":
      return resolveTime(attempt, target.timeUs, target.exclusive ?? false);
    case "name":
      return resolveName(attempt, target.name);
    case "xid": {
      const exclusive = target.exclusive ?? false;
      return resolveUnknown(
        attempt,
        { kind: "xid", xid: target.xid, exclusive, timeline },
        `transaction ${target.xid}`,
      );
    }
  }
}

function resolveLsn(attempt: Attempt, asked: bigint, exclusive: boolean): ResolvedTarget | undefined {
  const { reach, base, segmentBytes } = attempt;
  const lsn = recordEnd(asked, segmentBytes);
  if (lsn < base.backup.stopLsn || lsn > reach.endLsn) return undefined;
  // The server ends at the first record that begins there or later: it has to come by one.
  if (lsn === reach.endLsn) return exclusive ? everythingBefore(attempt, lsn) : undefined;
  if (reach.repository === undefined) return undefined;
  // From within a record it is the next one that counts: then it takes two ends to be sure of that one's.
  const [next, second] = recordEndsAfter(reach, lsn);
  const isSure = second !== undefined || (next !== undefined && recordEnds(reach).has(lsn));
  const warnings = isSure ? [] : [laterRecordUnknown(lsn, reach)];
  const serverTarget = { kind: "lsn", lsn: asked, exclusive, timeline: reach.timeline } as const;
  return resolved(attempt, { serverTarget, endLsn: lsn, mostLsn: second ?? reach.endLsn, warnings });
}

function resolveTime(attempt: Attempt, timeUs: bigint, exclusive: boolean): ResolvedTarget | undefined {
  const { reach, base } = attempt;
  const { facts, endLsn } = reach;
  const { stopLsn } = base.backup;
  // Times are whole microseconds: what is before this one is at or before the one before it.
  const lastUs = exclusive ? timeUs - 1n : timeUs;
  const times = baseTimes(reach, base);
  if (times === undefined || lastUs < times.startUs || lastUs > times.endUs) return undefined;
  const serverTarget = { kind: "time", timeUs, exclusive, timeline: reach.timeline } as const;
  const anchors = facts.anchors.filter(({ lsn }) => lsn >= stopLsn && lsn <= endLsn);
  const reached = anchors.find((anchor) => anchor.timeUs >= lastUs);
  // The server ends at a commit, which lies somewhere between two anchors.
  const lastBefore = anchors.findLast(({ lsn }) => reached === undefined || lsn < reached.lsn);
  const laters = facts.commits.filter(
    (span) =>
      span.endLsn > stopLsn && span.endLsn <= endLsn && span.times !== undefined && span.times.latestUs > lastUs,
  );
  // Of a span that begins before the backup's end the commit may be older, by a clock that was set back.
  const later = laters.find((span) => span.startLsn >= stopLsn);
  if (later !== undefined) {
    // An anchor at a switch may be late, and so only bring the end nearer: that promises less, not more.
    const past = [...anchors, ...facts.atSwitches].filter(({ lsn, timeUs }) => lsn >= stopLsn && timeUs > lastUs);
    const end = least([later.endLsn, ...past.map(({ lsn }) => lsn)]);
    const leastLsn = least([later.startLsn, lastBefore?.lsn ?? stopLsn]) ?? stopLsn;
    return resolved(attempt, { serverTarget, endLsn: end ?? later.endLsn, leastLsn, mostLsn: later.endLsn, lastUs });
  }
  if (reached !== undefined) {
    const idleFrom = anchors.findLast(({ timeUs, lsn }) => timeUs <= lastUs && lsn <= reached.lsn)?.lsn ?? stopLsn;
    // Nothing was written between, or no commit: the position tells the time.
    if (isFreeOfLaterCommits(facts, idleFrom, reached.lsn, lastUs)) {
      return everythingBefore(attempt, reached.lsn, lastUs);
    }
  }
  const end = reached?.lsn ?? laters[0]?.endLsn;
  if (end === undefined) return undefined;
  const warnings: PlanWarning[] = [
    {
      code: "later-commit-unknown",
      message: `${unknownLater} if there is none, the server says that recovery ended before its target, and starts nothing; then all that timeline ${reach.timeline} holds was committed before it: --timeline ${reach.timeline} --latest`,
    },
  ];
  const leastLsn = least([...laters.map(({ startLsn }) => startLsn), lastBefore?.lsn ?? stopLsn]) ?? stopLsn;
  return resolved(attempt, { serverTarget, endLsn: end, leastLsn, mostLsn: endLsn, lastUs, warnings });
}

function resolveName(attempt: Attempt, name: string): ResolvedTarget | undefined {
  const { reach, base, restorePoints } = attempt;
  const serverTarget = { kind: "name", name, timeline: reach.timeline } as const;
  const lsn = restorePoints.get(name);
  if (lsn === undefined) return resolveUnknown(attempt, serverTarget, `restore point ${name}`);
  // A restore point is a record of its own: one at the very end of the backup was before it.
  if (reach.repository === undefined || lsn <= base.backup.stopLsn || lsn > reach.endLsn) return undefined;
  return resolved(attempt, { serverTarget, endLsn: lsn });
}

function resolveUnknown(
  attempt: Attempt,
  serverTarget: ResolvedTarget["serverTarget"],
  what: string,
): ResolvedTarget | undefined {
  const { reach, base } = attempt;
  if (reach.repository === undefined) return undefined;
  const from = formatLsn(base.backup.stopLsn);
  const message = `${unknownPosition} ${what} is, nor whether it is there at all: it is found if it lies between ${from} and ${formatLsn(reach.endLsn)} on timeline ${reach.timeline}, else the server starts nothing; it may lie before ${base.backup.id}: then name an older backup with --backup`;
  return {
    serverTarget,
    endLsn: undefined,
    leastLsn: undefined,
    mostLsn: reach.endLsn,
    completeUntilUs: undefined,
    walEndLsn: undefined,
    warnings: [{ code: "position-unknown", message }],
  };
}

/** Recovery that replays what is before a position known to be the end of a record, and nothing else. */
function everythingBefore(attempt: Attempt, lsn: bigint, lastUs?: bigint): ResolvedTarget {
  const { reach } = attempt;
  const { timeline } = reach;
  const shared = { endLsn: lsn, ...(lastUs === undefined ? {} : { lastUs }) };
  if (reach.repository === undefined) {
    return resolved(attempt, { ...shared, serverTarget: { kind: "immediate", timeline } });
  }
  if (recordEndsAfter(reach, lsn).length > 0) {
    return resolved(attempt, { ...shared, serverTarget: { kind: "lsn", lsn, exclusive: true, timeline } });
  }
  // A position without a record after it is one that the server would never find: it is to run out of WAL there.
  return resolved(attempt, { ...shared, serverTarget: { kind: "latest", timeline }, walEndLsn: lsn });
}

/** Where records are known to end after that position and within the WAL, in order. */
function recordEndsAfter(reach: Reach, lsn: bigint): bigint[] {
  const within = [...recordEnds(reach)].filter((end) => end > lsn && end <= reach.endLsn);
  return within.sort((one, other) => (one < other ? -1 : 1));
}

function recordEnds({ facts, bases, path }: Reach): Set<bigint> {
  return new Set([
    ...facts.anchors.map((anchor) => anchor.lsn),
    ...bases.flatMap(({ backup }) => [backup.startLsn, backup.stopLsn]),
    ...path.map((piece) => piece.startLsn),
  ]);
}

function resolved(
  { reach, base }: Attempt,
  result: Pick<ResolvedTarget, "serverTarget"> &
    Partial<ResolvedTarget> & {
      readonly endLsn: bigint;
      /** Last time of what was asked for. */
      readonly lastUs?: bigint;
    },
): ResolvedTarget {
  const { facts } = reach;
  const { startLsn, stopLsn } = base.backup;
  const { serverTarget, endLsn, leastLsn = endLsn, mostLsn = endLsn, walEndLsn, lastUs, warnings = [] } = result;
  const meantUs = lastUs ?? knownUntil(reach, base, endLsn);
  if (meantUs === undefined) {
    const unknown = [...warnings, timeUnknown(base.backup.id)];
    return { serverTarget, endLsn, leastLsn, mostLsn, completeUntilUs: undefined, walEndLsn, warnings: unknown };
  }
  const beyond = earliestBeyond(facts, endLsn);
  const completeUntilUs = beyond !== undefined && beyond <= meantUs ? beyond - 1n : meantUs;
  // From the base on nothing later comes before the end, or another base would have been taken.
  const before = lastUs === undefined ? undefined : latestBefore(facts, startLsn);
  const isAmbiguous = (beyond !== undefined && beyond <= meantUs) || (before !== undefined && before > meantUs);
  return {
    serverTarget,
    endLsn,
    leastLsn: serverTarget.kind === "time" && isAmbiguous ? stopLsn : leastLsn,
    mostLsn,
    completeUntilUs,
    walEndLsn,
    warnings: isAmbiguous ? [...warnings, clockSetBack(formatLsn(endLsn))] : warnings,
  };
}

/** A time until which everything that was committed lies before that position; undefined where none is known. */
function knownUntil({ facts }: Reach, { backup }: Base, endLsn: bigint): bigint | undefined {
  const { fromStandby, startLsn, startTimeUs } = backup;
  const anchor = facts.anchors.findLast(({ lsn }) => lsn <= endLsn);
  // A standby may be far behind: when its backup began says nothing of what it had.
  if (fromStandby === true) return anchor?.timeUs;
  return anchor !== undefined && anchor.lsn >= startLsn ? anchor.timeUs : startTimeUs;
}

function timeUnknown(backup: string): PlanWarning {
  const message = `${unknownTime} what was committed will be there: ${backup} is of a standby, which may have been behind`;
  return { code: "time-unknown", message };
}

function clockSetBack(end: string): PlanWarning {
  const message = `the server's clock was set back around that time: commits before ${end} may carry later times and will be there, commits after it may carry earlier ones and will not`;
  return { code: "clock-set-back", message };
}

function laterRecordUnknown(lsn: bigint, { endLsn }: Reach): PlanWarning {
  const message = `the WAL ends at ${formatLsn(endLsn)}: if no whole record begins at ${formatLsn(lsn)} or after it, the server says that recovery ended before its target, and starts nothing`;
  return { code: "later-record-unknown", message };
}
