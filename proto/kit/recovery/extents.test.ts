import { expect, test } from "vitest";
import { addRuns, type Extent, findGaps, removeRuns } from "./extents.ts";

const run = (startLsn: bigint, endLsn: bigint, other: Partial<Extent> = {}): Extent => ({
  repository: "rep_1",
  systemIdentifier: "7",
  timeline: 1,
  startLsn,
  endLsn,
  ...other,
});
const bounds = (extents: readonly Extent[]) => extents.map(({ startLsn, endLsn }) => [startLsn, endLsn]);

const mib16 = 1n << 24n;

test("segments that follow each other are one extent, also across 4 GiB", () => {
  const start = (1n << 32n) - 2n * mib16;
  const segments = [0n, 1n, 2n, 3n].map((number) => run(start + number * mib16, start + (number + 1n) * mib16));
  expect(addRuns([], segments.toReversed())).toEqual([run(start, start + 4n * mib16)]);
});

test("a part of a segment is carried on by more of it, and by the whole of it", () => {
  const [partial] = addRuns([], [run(mib16, mib16 + 1000n)]);
  expect(addRuns(partial === undefined ? [] : [partial], [run(mib16, mib16 + 1500n)])).toEqual([
    run(mib16, mib16 + 1500n),
  ]);
  expect(addRuns([run(mib16, mib16 + 1000n)], [run(mib16 + 1000n, 2n * mib16)])).toEqual([run(mib16, 2n * mib16)]);
  expect(addRuns([run(mib16, mib16 + 1000n)], [run(mib16 + 1001n, 2n * mib16)])).toHaveLength(2);
});

test("a run inside an extent changes nothing, an empty one neither", () => {
  expect(addRuns([run(0n, 100n)], [run(20n, 30n), run(500n, 500n)])).toEqual([run(0n, 100n)]);
});

test("a run that ends before it begins is refused", () => {
  expect(() => addRuns([], [run(0x20n, 0x10n)])).toThrow("WAL of timeline 1 from 0/20 ends at 0/10 already");
});

test("repositories, servers and timelines are kept apart", () => {
  const runs = [run(0n, 10n), run(10n, 20n, { repository: "rep_2" }), run(10n, 20n, { systemIdentifier: "8" })];
  expect(addRuns(runs, [run(10n, 20n, { timeline: 2 })])).toHaveLength(4);
  expect(findGaps(addRuns(runs, []))).toEqual([]);
});

test("two extents of a timeline have a gap between them until it is filled", () => {
  const extents = addRuns([run(0n, 10n)], [run(30n, 40n), run(20n, 25n)]);
  expect(findGaps(extents)).toEqual([run(10n, 20n), run(25n, 30n)]);
  expect(findGaps(addRuns(extents, [run(10n, 20n)]))).toEqual([run(25n, 30n)]);
  expect(findGaps(addRuns(extents, findGaps(extents)))).toEqual([]);
});

test("what was removed splits an extent, or shortens it at either end", () => {
  expect(bounds(removeRuns([run(0n, 30n)], [run(10n, 20n)]))).toEqual([
    [0n, 10n],
    [20n, 30n],
  ]);
  expect(bounds(removeRuns([run(0n, 30n)], [run(0n, 10n), run(20n, 30n)]))).toEqual([[10n, 20n]]);
  expect(bounds(removeRuns([run(10n, 30n)], [run(0n, 10n), run(30n, 40n)]))).toEqual([[10n, 30n]]);
  expect(removeRuns([run(0n, 30n)], [run(0n, 30n)])).toEqual([]);
  expect(removeRuns([run(0n, 30n)], [run(0n, 30n, { timeline: 2 })])).toHaveLength(1);
});
