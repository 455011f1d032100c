import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { expect, test } from "vitest";
import type { WalExtent } from "../store/extent.ts";
import { addExtent } from "../store/extent.ts";
import { chooseStart } from "./choose-start.ts";

const segmentBytes = 16n << 20n;
const extent = (timeline: number, start: string, end: string): WalExtent => ({
  timeline,
  startLsn: parseLsn(start),
  endLsn: parseLsn(end),
});
const choose = (extents: WalExtent[], timeline: number, former: { timeline: number; endLsn: bigint }[] = []) =>
  chooseStart(extents, { timeline, former, segmentBytes });

test("archiving goes on at the segment that holds the archive's end", () => {
  expect(choose([extent(1, "0/1000000", "0/3000000")], 1)).toEqual({ timeline: 1, lsn: parseLsn("0/3000000") });
  expect(choose([extent(1, "0/1000000", "0/3000028")], 1)).toEqual({ timeline: 1, lsn: parseLsn("0/3000000") });
  expect(choose([extent(1, "0/1000000", "0/2000000"), extent(1, "0/5000000", "0/6000000")], 1)).toEqual({
    timeline: 1,
    lsn: parseLsn("0/6000000"),
  });
  expect(choose([], 1)).toBeUndefined();
  expect(choose([extent(5, "0/1000000", "0/2000000")], 1)).toBeUndefined();
});

test("a timeline that was left is archived to where it was left, then the next one from its first segment", () => {
  const former = [{ timeline: 1, endLsn: parseLsn("0/3000100") }];
  expect(choose([extent(1, "0/1000000", "0/2000000")], 2, former)).toEqual({ timeline: 1, lsn: parseLsn("0/2000000") });
  const whole = { timeline: 2, lsn: parseLsn("0/3000000") };
  expect(choose([extent(1, "0/1000000", "0/3000100")], 2, former)).toEqual(whole);
  // What an old primary wrote after it was left is a branch of its own.
  expect(choose([extent(1, "0/1000000", "0/5000000")], 2, former)).toEqual(whole);
  expect(choose([extent(1, "0/1000000", "0/5000000"), extent(2, "0/3000000", "0/4000000")], 2, former)).toEqual({
    timeline: 2,
    lsn: parseLsn("0/4000000"),
  });
});

test("runs that touch become one, in any order", () => {
  const runs = [extent(1, "0/3", "0/4"), extent(1, "0/1", "0/2"), extent(2, "0/2", "0/3"), extent(1, "0/2", "0/3")];
  expect(runs.reduce<WalExtent[]>(addExtent, [])).toEqual([extent(1, "0/1", "0/4"), extent(2, "0/2", "0/3")]);
  expect(addExtent([extent(1, "0/1", "0/9")], extent(1, "0/2", "0/3"))).toEqual([extent(1, "0/1", "0/9")]);
});
