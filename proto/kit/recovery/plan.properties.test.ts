// One thing: a server that writes, archives, is promoted, loses WAL and is recovered, simulated record by record, and
// what must hold of windows and plans whatever happens to it. The recovery here is PostgreSQL's, not the planner's.
import { expect, test } from "vitest";
import { addRuns, type Extent, removeRuns } from "./extents.ts";
import { planRecovery } from "./plan.ts";
import { tellsOrder } from "./anchor-order.ts";
import type { Anchor, CommitSpan, PhysicalBackup, RecoveryInput } from "./recovery-input.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import type { Target } from "./target.ts";
import type { Ancestor, TimelineHistory } from "./timeline-history.ts";
import { type RecoveryWindow, recoveryWindows } from "./windows.ts";

const segmentBytes = 1n << 20n;
const unit = 1n << 16n;
interface WalRecord {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  readonly commitUs?: bigint;
}

interface World {
  readonly input: RecoveryInput;
  readonly records: readonly WalRecord[];
}

/** mulberry32. */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function simulate(seed: number, { clockSteps = false, tellCommits = true } = {}): World {
  const random = chance(seed);
  const records: WalRecord[] = [];
  const backups: PhysicalBackup[] = [];
  const anchors: Anchor[] = [];
  const histories: TimelineHistory[] = [];
  let extents: Extent[] = [];
  let now = 1_000_000n;
  let timeline = 1;
  let latest = 1;
  const ends = new Map<number, bigint>([[1, segmentBytes]]);
  const archivedFrom = new Map<number, bigint>([[1, segmentBytes]]);
  const end = () => ends.get(timeline) ?? 0n;

  const write = (isCommit: boolean) => {
    // No commit in the microsecond in which an anchor was read: which was first only the server knows.
    now += BigInt(1 + random(5));
    const endLsn = end() + unit * BigInt(1 + random(7));
    records.push({ timeline, startLsn: end(), endLsn, ...(isCommit ? { commitUs: now } : {}) });
    ends.set(timeline, endLsn);
    // What nobody has seen nobody can warn of: here every record is seen.
    if (clockSteps) anchor();
  };
  const anchor = (told = { timeline, timeUs: now, lsn: end() }) => tellsOrder(anchors, told) && anchors.push(told);
  const backup = () => {
    const startLsn = end();
    const startTimeUs = now;
    for (let count = 1 + random(3); count > 0; count--) write(random(2) === 0);
    const parent = backups.findLast((each) => each.timeline === timeline && each.repository === "rep_1");
    const isNative = parent !== undefined && random(3) === 0;
    // A standby may have stopped at any record; the clock is set back for primaries alone.
    const had = clockSteps || random(3) > 0 ? undefined : records[random(records.length)];
    const replayed = had?.timeline === timeline ? had : undefined;
    now += 1n;
    backups.push({
      id: `bkp_${backups.length}`,
      repository: "rep_1",
      systemIdentifier: "7",
      method: isNative ? "native" : "full",
      ...(isNative ? { parent: parent.id } : {}),
      complete: random(12) > 0,
      state: random(12) === 0 ? "DAMAGED" : "STORED",
      timeline,
      startLsn: replayed?.startLsn ?? startLsn,
      stopLsn: replayed?.endLsn ?? end(),
      fromStandby: replayed !== undefined,
      startTimeUs,
      stopTimeUs: now,
      walEmbedded: random(8) === 0,
      storedBytes: 1n,
    });
    now += 1n;
  };
  const archive = () => {
    const startLsn = archivedFrom.get(timeline) ?? 0n;
    const whole = end() - (end() % segmentBytes);
    const endLsn = random(2) === 0 ? end() : whole;
    if (endLsn <= startLsn) return;
    const run = { repository: "rep_1", systemIdentifier: "7", timeline, startLsn, endLsn };
    if (random(10) > 0) extents = addRuns(extents, [run]);
    archivedFrom.set(timeline, endLsn);
  };
  const promote = () => {
    const own = records.filter((record) => record.timeline === timeline);
    const at = random(3) === 0 ? own[random(Math.max(own.length, 1))]?.endLsn : end();
    const ancestors: Ancestor[] = [...(histories.find((each) => each.timeline === timeline)?.ancestors ?? [])];
    ancestors.push({ timeline, endLsn: at ?? end(), reason: "" });
    timeline = ++latest;
    histories.push({ timeline, ancestors });
    ends.set(timeline, ancestors.at(-1)?.endLsn ?? 0n);
    archivedFrom.set(timeline, end() - (end() % segmentBytes));
    now += 3n;
    write(false);
  };

  for (let step = 20 + random(60); step > 0; step--) {
    const choice = random(100);
    if (choice < 35) write(random(3) > 0);
    else if (choice < 55) anchor();
    else if (choice < 62) now += BigInt(1 + random(20));
    else if (choice < 74) backup();
    else if (choice < 92) archive();
    else if (choice < 96) promote();
    else if (choice < 98 && latest > 1) timeline = 1 + random(latest);
    else if (clockSteps) now -= BigInt(random(30));
  }
  archive();
  for (const extent of extents.filter(() => random(6) === 0)) {
    const startLsn = extent.startLsn + segmentBytes * BigInt(random(4));
    extents = removeRuns(extents, [{ ...extent, startLsn, endLsn: startLsn + segmentBytes }]);
  }
  const commits = tellCommits ? tellOfCommits(records, random) : [];
  return { input: { systemIdentifier: "7", segmentBytes, backups, extents, histories, anchors, commits }, records };
}

/** What an agent that reads each segment would say, of some of them. */
function tellOfCommits(records: readonly WalRecord[], random: (below: number) => number): CommitSpan[] {
  return [...Map.groupBy(records, ({ timeline, startLsn }) => `${timeline} ${startLsn / segmentBytes}`).values()]
    .filter(() => random(4) > 0)
    .flatMap((group) => {
      const [first] = group;
      const last = group.at(-1);
      if (first === undefined || last === undefined) return [];
      const { timeline, startLsn } = first;
      const times = group.flatMap(({ commitUs }) => commitUs ?? []).sort((one, other) => Number(one - other));
      const [earliestUs] = times;
      const latestUs = times.at(-1);
      const told = earliestUs === undefined || latestUs === undefined ? {} : { times: { earliestUs, latestUs } };
      return [{ timeline, startLsn, endLsn: last.endLsn, ...told }];
    });
}

/** The timelines that a history leads through, as PostgreSQL reads it. */
function entriesOf({ input }: World, timeline: number) {
  const ancestors = input.histories.find((each) => each.timeline === timeline)?.ancestors ?? [];
  return [...ancestors, { timeline, endLsn: undefined }].map((entry, index) => ({
    timeline: entry.timeline,
    from: ancestors[index - 1]?.endLsn ?? 0n,
    to: entry.endLsn,
  }));
}

/** The records of the path to a timeline, as PostgreSQL chooses among timelines: the newest that has begun. */
function recordsTo(world: World, timeline: number): WalRecord[] {
  const entries = entriesOf(world, timeline);
  const timelineAt = (lsn: bigint) =>
    entries.findLast(({ from, to }) => from <= lsn && (to === undefined || lsn < to))?.timeline;
  return world.records
    .filter((record) => timelineAt(record.startLsn) === record.timeline)
    .sort((one, other) => (one.startLsn < other.startLsn ? -1 : 1));
}

/** Whether a record can be read: in the newest timeline's file of each segment that there is, or an older one's. */
function isArchived(world: World, { startLsn, endLsn }: WalRecord, timeline: number): boolean {
  for (let lsn = startLsn; lsn < endLsn; lsn += unit) {
    const found = entriesOf(world, timeline).some(
      (entry) =>
        lsn / segmentBytes >= entry.from / segmentBytes &&
        (entry.to === undefined || lsn < entry.to) &&
        world.input.extents.some(
          (extent) => extent.timeline === entry.timeline && lsn >= extent.startLsn && lsn < extent.endLsn,
        ),
    );
    if (!found) return false;
  }
  return true;
}

/** What a server that is given the plan replays; a text when it says that it cannot. */
function recover(world: World, plan: RecoveryPlan): WalRecord[] | string {
  const { serverTarget, walEndLsn } = plan;
  const base = world.input.backups.find(({ id }) => id === plan.chain.at(-1));
  if (base === undefined) return "no such backup";
  const replayed: WalRecord[] = [];
  let reached = plan.startLsn;
  const isConsistent = () => reached >= base.stopLsn;
  const stop = () => (isConsistent() ? replayed : "requested recovery stop point is before consistent recovery point");
  for (const record of recordsTo(world, serverTarget.timeline).filter(({ startLsn }) => startLsn >= plan.startLsn)) {
    if (serverTarget.kind === "immediate" && isConsistent()) return replayed;
    const { commitUs } = record;
    const isEmbedded = base.walEmbedded && record.endLsn <= base.stopLsn;
    if (record.startLsn !== reached) return "there is a hole";
    if (!isEmbedded && (plan.walRepository === undefined || !isArchived(world, record, serverTarget.timeline))) break;
    if (walEndLsn !== undefined && record.endLsn > walEndLsn) break;
    if (serverTarget.kind === "lsn" && serverTarget.exclusive === true && record.startLsn >= serverTarget.lsn)
      return stop();
    if (serverTarget.kind === "time" && commitUs !== undefined) {
      if (serverTarget.exclusive === true ? commitUs >= serverTarget.timeUs : commitUs > serverTarget.timeUs)
        return stop();
    }
    replayed.push(record);
    reached = record.endLsn;
    if (serverTarget.kind === "lsn" && serverTarget.exclusive !== true && record.startLsn >= serverTarget.lsn)
      return stop();
  }
  if (!isConsistent()) return "WAL ends before end of online backup";
  return serverTarget.kind === "latest" || serverTarget.kind === "immediate"
    ? replayed
    : "recovery ended before configured recovery target was reached";
}

function holds({ times, startLsn, endLsn }: RecoveryWindow, target: Target): boolean {
  if (target.kind === "time") {
    const lastUs = target.exclusive === true ? target.timeUs - 1n : target.timeUs;
    return times.some(({ startUs, endUs }) => lastUs >= startUs && lastUs <= endUs);
  }
  if (target.kind !== "lsn") return true;
  return target.lsn >= startLsn && (target.lsn < endLsn || (target.exclusive === true && target.lsn === endLsn));
}

/** Whether the plan begins, ends and fetches its WAL within the window. */
function isOf(window: RecoveryWindow, { serverTarget, walRepository, chain, endLsn }: RecoveryPlan): boolean {
  return (
    window.timeline === serverTarget.timeline &&
    window.walRepository === walRepository &&
    window.backups.includes(chain.at(-1) ?? "") &&
    (endLsn === undefined || (endLsn >= window.startLsn && endLsn <= window.endLsn))
  );
}

/** Targets at, just before and just after everything that decides, and between. */
function interestingTargets({ input, records }: World, seed: number): Target[] {
  const times = [
    ...input.anchors.map(({ timeUs }) => timeUs),
    ...input.backups.map(({ stopTimeUs }) => stopTimeUs),
    ...records.flatMap(({ commitUs }) => commitUs ?? []),
  ].flatMap((timeUs) => [timeUs - 1n, timeUs, timeUs + 1n]);
  const lsns = [
    ...input.extents.flatMap(({ startLsn, endLsn }) => [startLsn, endLsn]),
    ...input.backups.flatMap(({ startLsn, stopLsn }) => [startLsn, stopLsn]),
    ...records.map(({ startLsn }) => startLsn),
  ].flatMap((lsn) => [lsn, lsn + unit / 2n]);
  const random = chance(seed);
  const points: Target[] = [
    ...[...new Set(times)].flatMap((timeUs) =>
      [false, true].map((exclusive) => ({ kind: "time", timeUs, exclusive }) as const),
    ),
    ...[...new Set(lsns)].flatMap((lsn) =>
      [false, true].map((exclusive) => ({ kind: "lsn", lsn, exclusive }) as const),
    ),
  ];
  const some = Array.from({ length: sample }, () => points[random(Math.max(1, points.length))] ?? latest);
  return [latest, { kind: "immediate" }, ...new Set(some)];
}

const latest: Target = { kind: "latest" };
/** Targets a history: all of them would take minutes. */
const sample = 24;

const seeds = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
const show = (value: unknown) =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? each.toString() : each));
const hold = (isTrue: boolean, ...told: unknown[]) => {
  if (!isTrue) throw new Error(show(told));
};

/** Whether the plan keeps what it says when it is carried out; throws when not. */
function carryOut(world: World, target: Target, plan: RecoveryPlan, seed: number): void {
  const result = recover(world, plan);
  const mayFail = plan.warnings.some(({ code }) => code.startsWith("later-"));
  if (mayFail && result === "recovery ended before configured recovery target was reached") return;
  if (typeof result === "string") throw new Error(show([seed, target, plan, result]));
  const reached = result.at(-1)?.endLsn ?? plan.startLsn;
  const leastLsn = target.kind === "time" ? (plan.leastLsn ?? 0n) : 0n;
  hold(reached >= leastLsn && reached <= plan.mostLsn, seed, target, plan, reached);
  if (target.kind === "latest" || plan.walEndLsn !== undefined) {
    const left = recordsTo(world, plan.serverTarget.timeline).find(({ startLsn }) => startLsn >= reached);
    const { endLsn = 0n } = plan;
    hold(reached <= endLsn && (left === undefined || left.endLsn > endLsn), seed, target, plan, reached);
    if (target.kind === "time") hold(reached === endLsn, seed, target, plan, reached);
  }
  for (const commit of recordsTo(world, plan.serverTarget.timeline)) {
    const { commitUs } = commit;
    if (commitUs === undefined) continue;
    const isThere = commit.endLsn <= reached;
    hold(isThere || commitUs > (plan.completeUntilUs ?? 0n), seed, target, plan, commit, reached);
    if (target.kind !== "time" || plan.warnings.some(({ code }) => code === "clock-set-back")) continue;
    const isMeant = target.exclusive === true ? commitUs < target.timeUs : commitUs <= target.timeUs;
    hold(isThere === isMeant, seed, target, plan, commit, reached);
  }
}

test.each([true, false])("what is planned happens, to the commit; times of commits are known: %j", (tellCommits) => {
  let plans = 0;
  for (const seed of seeds(60)) {
    const world = simulate(seed, { tellCommits });
    for (const target of interestingTargets(world, seed)) {
      const plan = planRecovery(world.input, target);
      if (plan.kind === "unreachable") continue;
      plans++;
      carryOut(world, target, plan, seed);
    }
  }
  expect(plans).toBeGreaterThan(500);
});

test("a target is planned exactly when a window holds it, and then without a gap from start to end", () => {
  let checked = 0;
  for (const seed of seeds(60)) {
    const { input } = simulate(seed, { clockSteps: seed % 2 === 0, tellCommits: seed % 3 > 0 });
    const windows = recoveryWindows(input);
    for (const target of interestingTargets({ input, records: [] }, seed)) {
      const plan = planRecovery(input, target);
      checked++;
      const isHeld = windows.some((window) => holds(window, target));
      hold((plan.kind === "plan") === isHeld, seed, target, plan, windows);
      const isWithin = plan.kind === "unreachable" || windows.some((window) => isOf(window, plan));
      hold(isWithin, seed, target, plan, windows);
      const each = windows.find((window) => holds(window, target) && window.timelines.length > 1);
      if (each === undefined) continue;
      const along = planRecovery(input, { ...target, timeline: each.timeline });
      hold(along.kind === "plan", seed, target, each, along);
    }
  }
  expect(checked).toBeGreaterThan(500);
});

test("the nearest points of what cannot be reached can be reached, and lie on their sides of it", () => {
  let checked = 0;
  for (const seed of seeds(60)) {
    const { input } = simulate(seed);
    for (const target of interestingTargets({ input, records: [] }, seed)) {
      const plan = planRecovery(input, target);
      if (plan.kind === "plan") continue;
      for (const point of [plan.before, plan.after]) {
        if (point === undefined) continue;
        const { lsn, timeUs, timeline } = point;
        const byTime = target.kind === "time" && timeUs !== undefined;
        const nearest: Target = byTime
          ? { kind: "time", timeUs, timeline }
          : { kind: "lsn", lsn, exclusive: true, timeline };
        const at = planRecovery(input, nearest);
        hold(at.kind === "plan", seed, target, at);
        checked++;
      }
      if (target.kind !== "lsn") continue;
      const { before, after } = plan;
      hold(before === undefined || before.lsn <= target.lsn, seed, target, plan);
      hold(after === undefined || after.lsn > target.lsn, seed, target, plan);
    }
  }
  expect(checked).toBeGreaterThan(100);
});

test("more WAL never takes a point away, less never gives one, and what is gone splits or ends a window", () => {
  for (const seed of seeds(60)) {
    const { input } = simulate(seed);
    const random = chance(seed + 1_000_000);
    const extent = input.extents[random(Math.max(1, input.extents.length))];
    if (extent === undefined) continue;
    const startLsn = extent.startLsn + unit * BigInt(random(Number((extent.endLsn - extent.startLsn) / unit)));
    const gone = { ...extent, startLsn, endLsn: startLsn + unit };
    const less = { ...input, extents: removeRuns(input.extents, [gone]) };
    const isReachable = (at: RecoveryInput, target: Target) => planRecovery(at, target).kind === "plan";
    for (const target of interestingTargets({ input, records: [] }, seed)) {
      hold(isReachable(input, target) || !isReachable(less, target), seed, target, gone);
    }
    for (const window of recoveryWindows(less).filter((each) => each.walRepository === gone.repository)) {
      const isAcross = window.startLsn < gone.endLsn && window.endLsn > gone.startLsn;
      const hasCopy = window.timelines.some((timeline) => timeline > gone.timeline);
      if (window.timelines.includes(gone.timeline) && isAcross && !hasCopy) {
        hold(window.timelines.length > 1, seed, gone, window);
      }
    }
    expect(addRuns(less.extents, [gone])).toEqual(input.extents);
  }
});

test("with a clock that is set back nothing is promised that does not come", () => {
  let warned = 0;
  for (const seed of [...seeds(80), 559, 810, 1306]) {
    const world = simulate(seed, { clockSteps: true });
    for (const target of interestingTargets(world, seed)) {
      const plan = planRecovery(world.input, target);
      if (plan.kind === "unreachable") continue;
      if (plan.warnings.some(({ code }) => code === "clock-set-back")) warned++;
      carryOut(world, target, plan, seed);
    }
  }
  expect(warned).toBeGreaterThan(50);
});
