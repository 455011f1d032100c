// One thing: what may be deleted of archived WAL, by examples, and over random histories of timelines, backups and gaps.
import { addRuns, type Extent, removeRuns } from "@coppice/proto/kit/recovery/extents";
import { planRecovery } from "@coppice/proto/kit/recovery/plan";
import type { Anchor, PhysicalBackup, RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import type { Target } from "@coppice/proto/kit/recovery/target";
import type { TimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { recoveryWindows } from "@coppice/proto/kit/recovery/windows";
import { expect, test } from "vitest";
import { unneededWal } from "./unneeded-wal.ts";

const segment = 1n << 20n;
const server = { systemIdentifier: "7" } as const;

const extent = (timeline: number, from: number, to: number, more: Partial<Extent> = {}): Extent => ({
  ...server,
  repository: "rep_1",
  timeline,
  startLsn: BigInt(from) * segment,
  endLsn: BigInt(to) * segment,
  ...more,
});
const backup = (
  id: string,
  timeline: number,
  startLsn: bigint,
  more: Partial<PhysicalBackup> = {},
): PhysicalBackup => ({
  ...server,
  id,
  repository: "rep_1",
  method: "full",
  complete: true,
  state: "STORED",
  timeline,
  startLsn,
  stopLsn: startLsn + 100n,
  startTimeUs: 1n,
  stopTimeUs: 2n,
  walEmbedded: false,
  storedBytes: 1n,
  ...more,
});
const at = (segments: number, bytes = 40n) => BigInt(segments) * segment + bytes;
const history = (timeline: number, ...ancestors: [timeline: number, endLsn: bigint][]): TimelineHistory => ({
  timeline,
  ancestors: ancestors.map(([parent, endLsn]) => ({ timeline: parent, endLsn, reason: "" })),
});
const nothing = {
  ...server,
  segmentBytes: segment,
  backups: [],
  histories: [],
  extents: [],
  written: [1],
  isFormer: false,
  deleted: [],
};
const show = (input: Partial<Parameters<typeof unneededWal>[0]>) =>
  unneededWal({ ...nothing, ...input }).map(
    ({ timeline, startLsn, endLsn, reason, backup: id }) =>
      `${timeline}: ${Number(startLsn) / Number(segment)} to ${Number(endLsn) / Number(segment)} ${reason} ${id ?? "-"}`,
  );

test("what lies before the segment in which the oldest backup begins goes, and nothing behind it", () => {
  const backups = [backup("bkp_b", 1, at(8)), backup("bkp_a", 1, at(5))];
  expect(show({ backups, extents: [extent(1, 2, 20)] })).toEqual(["1: 2 to 5 before-backups bkp_a"]);
  expect(show({ backups: backups.slice(0, 1), extents: [extent(1, 2, 20)] })).toEqual([
    "1: 2 to 8 before-backups bkp_b",
  ]);
  expect(show({ backups, extents: [extent(1, 5, 20)] })).toEqual([]);
});

test("a backup that is damaged, incomplete or being deleted keeps its WAL as long as it is known", () => {
  for (const more of [
    { state: "DAMAGED" },
    { state: "DELETING" },
    { complete: false },
    { repository: "rep_2" },
  ] as const)
    expect(show({ backups: [backup("bkp_a", 1, at(5), more)], extents: [extent(1, 5, 20)] })).toEqual([]);
});

test("without a backup of this very server nothing goes", () => {
  const extents = [extent(1, 2, 20)];
  expect(show({ extents })).toEqual([]);
  expect(show({ extents, backups: [backup("bkp_x", 1, at(9), { systemIdentifier: "8" })] })).toEqual([]);
});

test("of a former server all goes when it has no backup any more, and else what no backup leads to", () => {
  const extents = [extent(1, 2, 20), extent(2, 18, 19)];
  const deleted = [extent(1, 1, 2)];
  expect(show({ extents, deleted, isFormer: true, written: [] })).toEqual([
    "1: 2 to 20 abandoned -",
    "2: 18 to 19 abandoned -",
    "1: 1 to 2 left-over -",
  ]);
  const backups = [backup("bkp_a", 1, at(5))];
  expect(show({ extents: extents.slice(0, 1), backups, isFormer: true, written: [] })).toEqual([
    "1: 2 to 5 before-backups bkp_a",
  ]);
});

test("what is left before a gap goes when no backup begins in it", () => {
  const extents = [extent(1, 2, 5), extent(1, 8, 20)];
  expect(show({ extents, backups: [backup("bkp_b", 1, at(9))] })).toEqual([
    "1: 2 to 5 before-gap bkp_b",
    "1: 8 to 9 before-backups bkp_b",
  ]);
  expect(show({ extents, backups: [backup("bkp_a", 1, at(2)), backup("bkp_b", 1, at(9))] })).toEqual([]);
});

test("a timeline stays as long as a backup before the switch leads to it, with what its parent wrote behind the switch", () => {
  const histories = [history(2, [1, at(10)])];
  const extents = [extent(1, 2, 14), extent(2, 10, 20)];
  const written = [2];
  expect(show({ histories, extents, written, backups: [backup("bkp_a", 1, at(5))] })).toEqual([
    "1: 2 to 5 before-backups bkp_a",
  ]);
  // Only the new timeline has one: the old one leads nowhere any more.
  expect(show({ histories, extents, written, backups: [backup("bkp_b", 2, at(12))] })).toEqual([
    "1: 2 to 11 before-backups bkp_b",
    "1: 11 to 14 abandoned -",
    "2: 10 to 12 before-backups bkp_b",
  ]);
  // A backup on the old one, behind the switch: the new one cannot be reached, but is written.
  expect(show({ histories, extents, written, backups: [backup("bkp_c", 1, at(12))] })).toEqual([
    "1: 2 to 12 before-backups bkp_c",
  ]);
});

test("a timeline that no backup leads to goes, unless it is written, the newest, or of unknown origin", () => {
  const histories = [history(2, [1, at(6)]), history(3, [1, at(10)])];
  const extents = [extent(1, 2, 12), extent(2, 6, 9), extent(3, 10, 20)];
  const backups = [backup("bkp_a", 1, at(8))];
  expect(show({ histories, extents, backups, written: [3] })).toEqual([
    "1: 2 to 8 before-backups bkp_a",
    "2: 6 to 9 abandoned -",
  ]);
  expect(show({ histories, extents, backups, written: [2] })).toEqual(["1: 2 to 8 before-backups bkp_a"]);
  expect(show({ histories: histories.slice(1), extents, backups, written: [3] })).toEqual([
    "1: 2 to 8 before-backups bkp_a",
  ]);
});

test("what was deleted before is looked for again, but for what a backup has come to need since", () => {
  const deleted = [extent(1, 1, 6), extent(2, 1, 3)];
  const histories = [history(2, [1, at(1)])];
  expect(
    show({ deleted, histories, extents: [extent(1, 4, 20)], backups: [backup("bkp_a", 1, at(5))], written: [1, 2] }),
  ).toEqual(["1: 4 to 5 before-backups bkp_a", "1: 1 to 4 left-over -"]);
});

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

/** A server that writes, archives with holes, is backed up, and promoted from where it is or was. */
function simulate(seed: number): RecoveryInput & { readonly written: number[] } {
  const random = chance(seed);
  const backups: PhysicalBackup[] = [];
  const histories: TimelineHistory[] = [];
  const anchors: Anchor[] = [];
  let extents: Extent[] = [];
  let timeline = 1;
  let latest = 1;
  let now = 1000n;
  const ends = new Map([[1, segment]]);
  const archived = new Map([[1, segment]]);
  const begins = new Map([[1, segment]]);
  const end = () => ends.get(timeline) ?? 0n;
  for (let step = 15 + random(50); step > 0; step--) {
    now += 10n;
    const what = random(12);
    if (what < 5) {
      ends.set(timeline, end() + BigInt(1 + random(40)) * (segment >> 4n));
      anchors.push({ timeline, timeUs: now, lsn: end() });
    } else if (what < 8) {
      const startLsn = archived.get(timeline) ?? 0n;
      const endLsn = random(2) === 0 ? end() : end() - (end() % segment);
      const repository = random(6) === 0 ? "rep_2" : "rep_1";
      if (endLsn > startLsn && random(6) > 0)
        extents = addRuns(extents, [
          { ...server, repository, timeline, startLsn: startLsn - (startLsn % segment), endLsn },
        ]);
      archived.set(timeline, endLsn > startLsn ? endLsn : startLsn);
    } else if (what < 11) {
      const startLsn = end();
      ends.set(timeline, end() + BigInt(1 + random(20)) * (segment >> 4n));
      const parent = backups.findLast((each) => each.timeline === timeline);
      const isNative = parent !== undefined && random(3) === 0;
      const incremental = isNative ? ({ method: "native", parent: parent.id } as const) : {};
      const state = random(10) === 0 ? "DAMAGED" : "STORED";
      const times = { startTimeUs: now, stopTimeUs: (now += 5n) };
      const made = { stopLsn: end(), ...times, ...incremental, state, walEmbedded: random(6) === 0 } as const;
      backups.push(backup(`bkp_${backups.length}`, timeline, startLsn, made));
    } else {
      const least = begins.get(timeline) ?? 0n;
      const steps = Number((end() - least) / (segment >> 4n));
      const from = random(2) === 0 ? end() : least + BigInt(random(steps + 1)) * (segment >> 4n);
      const before = histories.find((each) => each.timeline === timeline)?.ancestors ?? [];
      const ancestors = [...before, { timeline, endLsn: from, reason: "" }];
      // The old one goes on being there, and may be written by the next turns.
      const next = ++latest;
      histories.push({ timeline: next, ancestors });
      ends.set(next, from);
      begins.set(next, from);
      archived.set(next, from - (from % segment));
      timeline = next;
    }
    if (random(20) === 0) timeline = 1 + random(latest);
  }
  return { ...server, segmentBytes: segment, backups, histories, anchors, extents, commits: [], written: [timeline] };
}

const seeds = Array.from({ length: 120 }, (_, index) => index + 1);

test("whatever can be recovered to from the backups that are kept can be recovered to afterwards, by the same plan", () => {
  const counts = { plans: 0, deleted: 0, gone: 0 };
  for (const seed of seeds) {
    const { written, ...whole } = simulate(seed);
    const random = chance(seed + 5000);
    const gone = new Set<string>();
    for (const { id, parent } of whole.backups)
      if (random(2) === 0 || (parent !== undefined && gone.has(parent))) gone.add(id);
    const input = { ...whole, backups: whole.backups.filter(({ id }) => !gone.has(id)) };
    const runs = unneededWal({ ...input, written, isFormer: false, deleted: [] });
    counts.gone += gone.size;
    counts.deleted += runs.length;
    const after = { ...input, extents: removeRuns(input.extents, runs) };
    expect(recoveryWindows(after), `seed ${seed}`).toEqual(recoveryWindows(input));
    const lsns = [
      ...input.extents.flatMap(({ startLsn, endLsn }) => [startLsn, endLsn]),
      ...input.backups.flatMap(({ startLsn, stopLsn }) => [startLsn, stopLsn]),
    ];
    const times = [...input.anchors, ...input.backups.map(({ stopTimeUs: timeUs }) => ({ timeUs }))];
    const plain: Target[] = [
      { kind: "latest" },
      { kind: "immediate" },
      ...lsns.flatMap((lsn) => [false, true].map((exclusive) => ({ kind: "lsn", lsn, exclusive }) as const)),
      ...times.map(({ timeUs }) => ({ kind: "time", timeUs }) as const),
    ];
    const timelines = [...new Set(input.extents.map(({ timeline }) => timeline))];
    const targets = plain.flatMap((target) => [target, ...timelines.map((timeline) => ({ ...target, timeline }))]);
    for (let count = 0; count < 40; count++) {
      const target = targets[random(targets.length)];
      if (target === undefined) continue;
      const before = planRecovery(input, target);
      if (before.kind === "unreachable") continue;
      counts.plans++;
      expect(planRecovery(after, target), `seed ${seed}`).toEqual(before);
    }
    // What goes is whole segments, or ends where what is stored does; and of what is left nothing goes.
    for (const { startLsn, endLsn } of runs) {
      const isEnd = input.extents.some((each) => each.endLsn === endLsn);
      expect(startLsn % segment === 0n && (endLsn % segment === 0n || isEnd), `seed ${seed}`).toBe(true);
    }
    expect(unneededWal({ ...after, written, isFormer: false, deleted: [] }), `seed ${seed}`).toEqual([]);
  }
  expect(counts.plans).toBeGreaterThan(500);
  expect(counts.deleted).toBeGreaterThan(100);
  expect(counts.gone).toBeGreaterThan(100);
});
