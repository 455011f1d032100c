// One thing: the conditions that decide a plan, each at equality, on one small history that is written out here.
import { expect, test } from "vitest";
import { planRecovery } from "./plan.ts";
import type { Anchor, PhysicalBackup, RecoveryInput } from "./recovery-input.ts";
import type { RecoveryPlan, Unreachable } from "./recovery-plan.ts";
import type { Target } from "./target.ts";
import { isSettledByRecovery } from "./resolve-target.ts";
import { recoveryWindows } from "./windows.ts";

const segmentBytes = 1n << 20n;
const at = (tenths: number) => (segmentBytes * BigInt(tenths)) / 10n - (((segmentBytes * BigInt(tenths)) / 10n) % 64n);

const backup = (id: string, other: Partial<PhysicalBackup> = {}): PhysicalBackup => ({
  id,
  repository: "rep_1",
  systemIdentifier: "7",
  method: "full",
  complete: true,
  state: "STORED",
  timeline: 1,
  startLsn: at(20),
  stopLsn: at(25),
  startTimeUs: 90n,
  stopTimeUs: 100n,
  walEmbedded: false,
  storedBytes: 1000n,
  ...other,
});
const wal = (startLsn: bigint, endLsn: bigint, timeline = 1, repository = "rep_1") => ({
  repository,
  systemIdentifier: "7",
  timeline,
  startLsn,
  endLsn,
});
const anchor = (timeUs: bigint, lsn: bigint, timeline = 1): Anchor => ({ timeline, timeUs, lsn });

// One backup, then WAL to 60; something is written until 200, nothing until 300, something again until 400.
const base: RecoveryInput = {
  systemIdentifier: "7",
  segmentBytes,
  backups: [backup("bkp_a")],
  extents: [wal(at(20), at(60))],
  histories: [],
  anchors: [anchor(150n, at(30)), anchor(200n, at(40)), anchor(300n, at(40)), anchor(400n, at(60))],
};
const planned = (target: Target, input = base): RecoveryPlan => {
  const plan = planRecovery(input, target);
  if (plan.kind === "unreachable") throw new Error(plan.message);
  return plan;
};
const refused = (target: Target, input = base): Unreachable => {
  const plan = planRecovery(input, target);
  if (plan.kind === "plan") throw new Error("it was planned");
  return plan;
};
const codes = ({ warnings }: RecoveryPlan) => warnings.map(({ code }) => code);

test("the latest is the end of what is archived", () => {
  expect(planned({ kind: "latest" })).toMatchObject({
    chain: ["bkp_a"],
    walRepository: "rep_1",
    timelines: [1],
    startLsn: at(20),
    endLsn: at(60),
    segments: 4n,
    walBytes: at(60) - at(20),
    completeUntilUs: 400n,
    serverTarget: { kind: "latest", timeline: 1 },
    warnings: [],
  });
});

test("a position is reached from the backup's end to just before the end of WAL, and the end when it is left out", () => {
  const plan = (lsn: bigint, exclusive: boolean) => planRecovery(base, { kind: "lsn", lsn, exclusive });
  expect(plan(at(25), false)).toMatchObject({ kind: "plan", serverTarget: { kind: "lsn", exclusive: false } });
  expect(plan(at(25), true)).toMatchObject({ kind: "plan", serverTarget: { kind: "lsn", exclusive: true } });
  expect(plan(at(25) - 1n, false)).toMatchObject({ reason: "too-early", after: { lsn: at(25) }, before: undefined });
  expect(plan(at(25) - 1n, true)).toMatchObject({ reason: "too-early" });
  expect(plan(at(60) - 64n, false)).toMatchObject({ kind: "plan" });
  expect(plan(at(60), false)).toMatchObject({ reason: "too-late", before: { lsn: at(60) }, after: undefined });
  expect(plan(at(60), true)).toMatchObject({ serverTarget: { kind: "latest" }, walEndLsn: at(60), endLsn: at(60) });
  expect(plan(at(60) + 41n, true)).toMatchObject({ reason: "too-late" });
});

test("a position behind the header of the page that WAL will go on with is the end of WAL", () => {
  expect(at(60) % segmentBytes).toBe(0n);
  expect(planned({ kind: "lsn", lsn: at(60) + 40n, exclusive: true }).endLsn).toBe(at(60));
  const input = { ...base, anchors: [...base.anchors, anchor(500n, at(60) + 40n)] };
  expect(planned({ kind: "time", timeUs: 500n }, input)).toMatchObject({ endLsn: at(60), walEndLsn: at(60) });
});

test("a position with no record known behind it is planned with a warning", () => {
  expect(codes(planned({ kind: "lsn", lsn: at(40) }))).toEqual([]);
  expect(codes(planned({ kind: "lsn", lsn: at(50) }))).toEqual(["later-record-unknown"]);
});

test("a time in an idle hour becomes the position of an anchor, also exactly at either end of it", () => {
  for (const timeUs of [200n, 250n, 300n]) {
    const plan = planned({ kind: "time", timeUs });
    expect(plan.serverTarget).toEqual({ kind: "lsn", lsn: at(40), exclusive: true, timeline: 1 });
    expect([plan.endLsn, plan.completeUntilUs, plan.warnings]).toEqual([at(40), timeUs, []]);
  }
  const before = planned({ kind: "time", timeUs: 300n, exclusive: true });
  expect([before.serverTarget.kind, before.completeUntilUs]).toEqual(["lsn", 299n]);
});

test("a time at the last anchor is reached at the end of WAL, a microsecond more is refused", () => {
  const plan = planned({ kind: "time", timeUs: 400n });
  expect([plan.serverTarget.kind, plan.walEndLsn, plan.endLsn]).toEqual(["latest", at(60), at(60)]);
  expect(refused({ kind: "time", timeUs: 401n })).toMatchObject({ reason: "too-late", before: { timeUs: 400n } });
  expect(planned({ kind: "time", timeUs: 401n, exclusive: true }).walEndLsn).toBe(at(60));
  expect(refused({ kind: "time", timeUs: 402n, exclusive: true }).reason).toBe("too-late");
});

test("an anchor beyond what is archived tells nothing, one exactly at its end does", () => {
  const short = { ...base, extents: [wal(at(20), at(60) - 64n)] };
  expect(refused({ kind: "time", timeUs: 400n }, short)).toMatchObject({ before: { timeUs: 300n } });
  expect(planned({ kind: "time", timeUs: 400n }).kind).toBe("plan");
});

test("a time while something was written is left to the server, with a warning unless a later commit is known", () => {
  const unknown = planned({ kind: "time", timeUs: 350n });
  expect([unknown.serverTarget.kind, codes(unknown)]).toEqual(["time", ["later-commit-unknown"]]);
  const span = (latestUs: bigint) => [
    { timeline: 1, startLsn: at(40), endLsn: at(60), times: { earliestUs: 320n, latestUs } },
  ];
  // It ends at a commit between the two: less than the first of them would be a failure, less than the second is not.
  expect(unknown.leastLsn).toBe(at(40));
  const known = planned({ kind: "time", timeUs: 350n }, { ...base, commits: span(351n) });
  expect([known.serverTarget.kind, codes(known)]).toEqual(["time", []]);
  // The last commit is at or before it: the server would not find a later one.
  const last = planned({ kind: "time", timeUs: 350n }, { ...base, commits: span(350n) });
  expect([last.serverTarget.kind, last.walEndLsn, codes(last)]).toEqual(["latest", at(60), []]);
  const left = planned({ kind: "time", timeUs: 350n, exclusive: true }, { ...base, commits: span(350n) });
  expect([left.serverTarget.kind, codes(left)]).toEqual(["time", []]);
});

test("a time is reached from the moment the backup ended", () => {
  expect(planned({ kind: "time", timeUs: 100n }).chain).toEqual(["bkp_a"]);
  expect(refused({ kind: "time", timeUs: 99n })).toMatchObject({ reason: "too-early", after: { timeUs: 100n } });
  expect(refused({ kind: "time", timeUs: 100n, exclusive: true }).reason).toBe("too-early");
});

test("the backup that leaves least WAL to replay is taken, if it ended before the target", () => {
  const newer = backup("bkp_b", { startLsn: at(32), stopLsn: at(40), startTimeUs: 190n, stopTimeUs: 200n });
  const input = { ...base, backups: [base.backups[0] ?? newer, newer] };
  expect(planned({ kind: "lsn", lsn: at(40) }, input).chain).toEqual(["bkp_b"]);
  expect(planned({ kind: "lsn", lsn: at(40) - 64n }, input).chain).toEqual(["bkp_a"]);
  expect(planned({ kind: "time", timeUs: 200n }, input).chain).toEqual(["bkp_b"]);
  expect(planned({ kind: "time", timeUs: 199n }, input).chain).toEqual(["bkp_a"]);
  expect(planned({ kind: "latest" }, { ...input, backup: "bkp_a" }).chain).toEqual(["bkp_a"]);
  expect(planned({ kind: "immediate" }, input)).toMatchObject({
    chain: ["bkp_b"],
    endLsn: at(40),
    completeUntilUs: 300n,
  });
});

test("an incremental is unpacked on its parents, full one first, all from one repository", () => {
  const first = backup("bkp_b", {
    method: "native",
    parent: "bkp_a",
    startLsn: at(30),
    stopLsn: at(32),
    stopTimeUs: 160n,
  });
  const second = backup("bkp_c", {
    method: "native",
    parent: "bkp_b",
    startLsn: at(35),
    stopLsn: at(36),
    stopTimeUs: 170n,
  });
  const full = backup("bkp_a");
  const chain = (...backups: PhysicalBackup[]) => planned({ kind: "latest" }, { ...base, backups });
  expect(chain(second, first, full)).toMatchObject({ chain: ["bkp_a", "bkp_b", "bkp_c"], storedBytes: 3000n });
  for (const broken of [
    { complete: false },
    { state: "DAMAGED" },
    { state: "DELETING" },
    { repository: "rep_2" },
  ] as const) {
    expect(chain(second, { ...first, ...broken }, full).chain, JSON.stringify(broken)).toEqual(["bkp_a"]);
  }
  const none = refused({ kind: "latest" }, { ...base, backups: [first, second, { ...full, state: "DAMAGED" }] });
  expect(none.unusable.map(({ problem }) => problem)).toEqual([
    "its ancestor bkp_a is damaged",
    "its ancestor bkp_a is damaged",
    "it is damaged",
  ]);
});

test("a WAL increment is replayed to its restore point from what it grew out of", () => {
  const increment = backup("bkp_i", {
    method: "wal",
    parent: "bkp_a",
    startLsn: at(25),
    stopLsn: at(40),
    stopTimeUs: 200n,
    restorePoint: "coppice_i",
  });
  const input = { ...base, backups: [...base.backups, increment] };
  expect(planned({ kind: "immediate" }, { ...input, backup: "bkp_i" })).toMatchObject({
    chain: ["bkp_a"],
    endLsn: at(40),
    serverTarget: { kind: "name", name: "coppice_i", timeline: 1 },
    warnings: [],
  });
  const { restorePoint: _, ...nameless } = increment;
  expect(
    planned({ kind: "immediate" }, { ...input, backups: [...base.backups, nameless], backup: "bkp_i" }),
  ).toMatchObject({ endLsn: at(40), serverTarget: { kind: "lsn", lsn: at(40), exclusive: true } });
  const named = planned({ kind: "name", name: "coppice_i" }, input);
  expect([named.endLsn, named.serverTarget.kind, codes(named)]).toEqual([at(40), "name", []]);
});

test("a transaction or a name that nobody knows the place of is tried, and said to be tried", () => {
  for (const target of [
    { kind: "xid", xid: 700 },
    { kind: "name", name: "x" },
  ] as const) {
    const plan = planned(target);
    expect([plan.endLsn, plan.completeUntilUs, codes(plan)]).toEqual([undefined, undefined, ["position-unknown"]]);
    expect(plan.warnings.map(({ message }) => isSettledByRecovery(message))).toEqual([true]);
    expect(plan.warnings[0]?.message).toMatch(/nor whether it is there at all: .*older backup with --backup/);
  }
});

test("a backup needs all its WAL, to the very end, unless that is inside", () => {
  const short = { ...base, extents: [wal(at(20), at(25) - 1n)] };
  expect(refused({ kind: "latest" }, short)).toMatchObject({ reason: "no-backup" });
  expect(refused({ kind: "latest" }, { ...base, extents: [wal(at(20) + 1n, at(60))] }).reason).toBe("no-backup");
  const exact = { ...base, extents: [wal(at(20), at(25))] };
  expect(planned({ kind: "latest" }, exact).endLsn).toBe(at(25));
  const embedded = { ...base, extents: [], backups: [backup("bkp_e", { walEmbedded: true })] };
  expect(planned({ kind: "latest" }, embedded)).toMatchObject({
    walRepository: undefined,
    endLsn: at(25),
    serverTarget: { kind: "immediate" },
  });
  const ofStandby = { ...embedded, backups: [backup("bkp_e", { walEmbedded: true, fromStandby: true })] };
  expect(planned({ kind: "latest" }, ofStandby)).toMatchObject({ endLsn: at(25), serverTarget: { kind: "latest" } });
  expect(recoveryWindows(embedded)).toMatchObject([{ startLsn: at(25), endLsn: at(25), times: [] }]);
  expect(refused({ kind: "time", timeUs: 150n }, embedded)).toMatchObject({ before: { backup: "bkp_e", lsn: at(25) } });
});

test("between two windows the nearest points are their ends; the latest is said to be out of reach", () => {
  const gap = { ...base, extents: [wal(at(20), at(40)), wal(at(50), at(60))] };
  const plan = planned({ kind: "latest" }, gap);
  expect([plan.endLsn, codes(plan)]).toEqual([at(40), ["wal-out-of-reach"]]);
  const later = backup("bkp_b", { startLsn: at(50), stopLsn: at(52), startTimeUs: 350n, stopTimeUs: 360n });
  const two = { ...gap, backups: [...base.backups, later] };
  expect(refused({ kind: "lsn", lsn: at(45) }, two)).toMatchObject({
    reason: "in-gap",
    before: { lsn: at(40) },
    after: { lsn: at(52) },
  });
  expect(refused({ kind: "time", timeUs: 330n }, two)).toMatchObject({
    before: { timeUs: 300n },
    after: { timeUs: 360n },
  });
});

// Promoted at 45; the old primary wrote on. Its last segment before the switch is only in the new timeline's.
const forked: RecoveryInput = {
  ...base,
  extents: [wal(at(20), at(40)), wal(at(40), at(80), 2)],
  histories: [{ timeline: 2, ancestors: [{ timeline: 1, endLsn: at(45), reason: "" }] }],
  anchors: [...base.anchors, anchor(410n, at(45), 2), anchor(500n, at(80), 2)],
};

test("a window goes on through a promotion, also where the switch is only in the new timeline's first segment", () => {
  expect(recoveryWindows(forked)[0]).toMatchObject({
    timeline: 2,
    timelines: [1, 2],
    startLsn: at(25),
    endLsn: at(80),
    times: [{ startUs: 100n, endUs: 500n }],
  });
  expect(planned({ kind: "latest" }, forked)).toMatchObject({ timelines: [1, 2], endLsn: at(80) });
  expect(planned({ kind: "latest", timeline: 1 }, forked)).toMatchObject({ timelines: [1], endLsn: at(40) });
  expect(planned({ kind: "lsn", lsn: at(44) }, forked)).toMatchObject({
    timelines: [1, 2],
    serverTarget: { timeline: 2 },
  });
});

test("a backup of the old timeline leads to the new one only if it ended by the switch", () => {
  const withStop = (stopLsn: bigint) => ({
    ...forked,
    extents: [wal(at(20), at(60)), wal(at(40), at(80), 2)],
    backups: [backup("bkp_a", { stopLsn })],
  });
  expect(planned({ kind: "latest", timeline: 2 }, withStop(at(45))).endLsn).toBe(at(80));
  expect(refused({ kind: "latest", timeline: 2 }, withStop(at(45) + 1n)).kind).toBe("unreachable");
  const plan = planned({ kind: "latest" }, withStop(at(45) + 1n));
  expect([plan.timelines, codes(plan)]).toEqual([[1], ["timeline-not-followed"]]);
});

test("the newest timeline is not followed without a word when the server went on with an older one", () => {
  const lived = {
    ...forked,
    extents: [wal(at(20), at(70)), wal(at(40), at(80), 2)],
    anchors: [...forked.anchors, anchor(600n, at(60))],
  };
  const plan = planned({ kind: "latest" }, lived);
  expect([plan.timelines, codes(plan)]).toEqual([[1, 2], ["timeline-not-followed"]]);
  expect(plan.warnings[0]?.message).toContain("the server wrote timeline 1 later");
  expect(codes(planned({ kind: "lsn", lsn: at(50) }, lived))).toContain("timeline-not-followed");
  for (const target of [
    { kind: "latest", timeline: 2 },
    { kind: "latest", timeline: 1 },
    { kind: "lsn", lsn: at(44) },
  ] as const) {
    expect(codes(planned(target, lived))).not.toContain("timeline-not-followed");
  }
  // The old primary was there for a while after the promotion.
  expect(codes(planned({ kind: "latest" }, { ...lived, anchors: [...forked.anchors, anchor(450n, at(60))] }))).toEqual(
    [],
  );
});

test("a timeline that nothing is known of is refused as such", () => {
  expect(refused({ kind: "latest", timeline: 9 })).toMatchObject({ reason: "timeline-unknown" });
});

test("a clock that was set back lowers what is promised, and is warned of", () => {
  // It was 400 at 60, then 250 at 70.
  const anchors = [...base.anchors, anchor(250n, at(70)), anchor(450n, at(80))];
  const input = { ...base, extents: [wal(at(20), at(80))], anchors };
  const plan = planned({ kind: "time", timeUs: 300n }, input);
  expect([plan.endLsn, plan.completeUntilUs, codes(plan)]).toEqual([at(40), 249n, ["clock-set-back"]]);
  expect(codes(planned({ kind: "time", timeUs: 249n }, input))).toEqual([]);
  expect(codes(planned({ kind: "time", timeUs: 420n }, input))).not.toContain("clock-set-back");
});

test("a clock that was set back where a timeline was left is warned of; a parent that stands still there is none", () => {
  const onTwo = (timeUs: bigint, lsn: bigint) => anchor(timeUs, lsn, 2);
  const forked = (...left: Anchor[]) => ({
    ...base,
    backups: [backup("bkp_a", { timeline: 2 })],
    extents: [wal(at(10), at(60), 2)],
    histories: [{ timeline: 2, ancestors: [{ timeline: 1, endLsn: at(15), reason: "" }] }],
    anchors: [...left, onTwo(150n, at(30)), onTwo(200n, at(40)), onTwo(400n, at(60))],
  });
  const target: Target = { kind: "time", timeUs: 200n };
  const warned = (...left: Anchor[]) => codes(planned(target, forked(...left)));
  expect(warned(anchor(500n, at(15)))).toContain("clock-set-back");
  expect(warned(anchor(80n, at(15)), anchor(500n, at(15)))).not.toContain("clock-set-back");
});

// Recovered to 45 and promoted at 900, archived since; the old one had gone on to 60, at 700.
const recovered: RecoveryInput = {
  ...base,
  extents: [wal(at(20), at(60)), wal(at(40), at(80), 2)],
  histories: [{ timeline: 2, ancestors: [{ timeline: 1, endLsn: at(45), reason: "" }] }],
  anchors: [
    ...base.anchors.filter(({ timeUs }) => timeUs < 400n),
    anchor(500n, at(55)),
    anchor(700n, at(60)),
    anchor(910n, at(46), 2),
    anchor(1000n, at(80), 2),
  ],
};

test("a time is recovered along the timeline that was written then, not along a newer one that left it before", () => {
  const plan = planned({ kind: "time", timeUs: 600n }, recovered);
  expect([plan.timelines, plan.serverTarget.timeline, codes(plan)]).toEqual([
    [1],
    1,
    ["later-commit-unknown", "timeline-of-time"],
  ]);
  const after = planned({ kind: "time", timeUs: 950n }, recovered);
  expect([after.timelines, codes(after)]).toEqual([[1, 2], ["later-commit-unknown"]]);
  const before = planned({ kind: "time", timeUs: 250n }, recovered);
  expect([before.serverTarget.timeline, codes(before)]).toEqual([2, []]);
  // With nothing left of it the newer one is taken, and that is said.
  const without = { ...recovered, extents: [wal(at(20), at(45)), wal(at(40), at(80), 2)] };
  expect(codes(planned({ kind: "time", timeUs: 600n }, without))).toContain("time-of-other-timeline");
  // Little is known of what was left: nothing of the way there, or a commit before that time and then silence.
  const known = recovered.anchors.filter(({ timeUs }) => timeUs !== 500n);
  const sparse = planned({ kind: "time", timeUs: 600n }, { ...recovered, anchors: known });
  expect([sparse.timelines, codes(sparse)]).toEqual([[1], ["later-commit-unknown", "timeline-of-time"]]);
  const silent = {
    ...recovered,
    anchors: known.filter(({ timeUs }) => timeUs !== 700n),
    commits: [{ timeline: 1, startLsn: at(45), endLsn: at(50), times: { earliestUs: 500n, latestUs: 500n } }],
  };
  expect(codes(planned({ kind: "time", timeUs: 600n }, silent))).toContain("time-of-other-timeline");
});

test("a timeline that cannot be followed is warned of only where it would have led to something else", () => {
  const cut = { ...recovered, extents: [wal(at(20), at(40)), wal(at(60), at(80), 2)] };
  expect(codes(planned({ kind: "latest" }, cut))).toEqual(["timeline-not-followed"]);
  expect(codes(planned({ kind: "lsn", lsn: at(35) }, cut))).not.toContain("timeline-not-followed");
  expect(codes(planned({ kind: "latest", timeline: 1 }, cut))).toEqual([]);
  const parted = { ...recovered, extents: [wal(at(20), at(60)), wal(at(60), at(80), 2)] };
  expect(codes(planned({ kind: "lsn", lsn: at(50) }, parted))).toContain("timeline-not-followed");
});
