import type { Ancestor } from "@coppice/proto/kit/recovery/timeline-history";
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
const choose = (extents: WalExtent[], timeline: number, held: string, former: Ancestor[] = []) =>
  chooseStart(extents, { timeline, former, segmentBytes, heldLsn: parseLsn(held) });
const at = (timeline: number, lsn: string, archived = lsn) => ({
  timeline,
  lsn: parseLsn(lsn),
  archivedLsn: parseLsn(archived),
});

test("archiving goes on at the segment that holds the archive's end", () => {
  expect(choose([extent(1, "0/1000000", "0/3000000")], 1, "0/3000000")).toEqual(at(1, "0/3000000"));
  const part = [extent(1, "0/1000000", "0/3000028")];
  expect(choose(part, 1, "0/3000028")).toEqual(at(1, "0/3000000", "0/3000028"));
  expect(choose([], 1, "0/1000000")).toBeUndefined();
  expect(choose([extent(5, "0/1000000", "0/2000000")], 1, "0/2000000")).toBeUndefined();
  expect(choose(part, 1, "0/0FFFFFF")).toBeUndefined();
});

test("what the slot holds is not left out for what lies behind it, and a gap that was declared is left behind", () => {
  const holed = [extent(1, "0/1000000", "0/2000000"), extent(1, "0/5000000", "0/6000000")];
  expect(choose(holed, 1, "0/2000000")).toEqual(at(1, "0/2000000"));
  expect(choose(holed, 1, "0/1F00000")).toEqual(at(1, "0/1000000", "0/2000000"));
  expect(choose(holed, 1, "0/5000000")).toEqual(at(1, "0/5000000", "0/6000000"));
  expect(choose(holed, 1, "0/4000000")).toEqual(at(1, "0/1000000", "0/2000000"));
  expect(choose(holed, 1, "0/6000000")).toEqual(at(1, "0/6000000"));
});

test("what is archived last comes once more where the slot begins elsewhere, before it or behind it", () => {
  for (const held of ["0/1800000", "0/6000000"])
    expect(choose([extent(1, "0/1000000", "0/3000000")], 1, held)).toEqual(at(1, "0/2000000", "0/3000000"));
  expect(choose([extent(1, "0/1000000", "0/3000028")], 1, "0/1800000")).toEqual(at(1, "0/3000000", "0/3000028"));
});

test("where the slot is new it begins at a hole near the end, and behind what the server has no more", () => {
  const holed = [extent(1, "0/1000000", "0/2000000"), extent(1, "0/5000000", "0/6000000")];
  const behind = (gone: string | undefined) =>
    chooseStart(holed, {
      timeline: 1,
      former: [],
      segmentBytes,
      heldLsn: parseLsn("0/9000000"),
      isSlotNew: true,
      goneLsn: gone === undefined ? undefined : parseLsn(gone),
    });
  expect(behind(undefined)).toEqual(at(1, "0/1000000", "0/2000000"));
  expect(behind("0/1000000")).toEqual(at(1, "0/2000000"));
  expect(behind("0/2000000")).toEqual(at(1, "0/5000000", "0/6000000"));
  expect(behind("0/5000000")).toEqual(at(1, "0/6000000"));
  expect(behind("0/6000000")).toBeUndefined();
});

test("a timeline that was left is archived to where it was left, then the next one from its first segment", () => {
  const former = [{ timeline: 1, endLsn: parseLsn("0/3000100"), reason: "" }];
  expect(choose([extent(1, "0/1000000", "0/2000000")], 2, "0/2000000", former)).toEqual(at(1, "0/2000000"));
  const whole = at(2, "0/3000000", "0/3000100");
  expect(choose([extent(1, "0/1000000", "0/3000100")], 2, "0/3000100", former)).toEqual(whole);
  // What an old primary wrote after it was left is a branch of its own.
  expect(choose([extent(1, "0/1000000", "0/5000000")], 2, "0/3000100", former)).toEqual(whole);
  const both = [extent(1, "0/1000000", "0/5000000"), extent(2, "0/3000000", "0/4000000")];
  expect(choose(both, 2, "0/4000000", former)).toEqual(at(2, "0/4000000"));
  // A slot that was made on the promoted server: its own past is compared first.
  expect(choose([extent(1, "0/1000000", "0/5000000")], 2, "0/9000000", former)).toEqual(
    at(1, "0/3000000", "0/3000100"),
  );
  // A hole before the switch, which the slot holds.
  const holed = [extent(1, "0/1000000", "0/2000000"), extent(2, "0/3000000", "0/4000000")];
  expect(choose(holed, 2, "0/2000000", former)).toEqual(at(1, "0/2000000"));
});

test("runs that touch become one, in any order", () => {
  const runs = [extent(1, "0/3", "0/4"), extent(1, "0/1", "0/2"), extent(2, "0/2", "0/3"), extent(1, "0/2", "0/3")];
  expect(runs.reduce<WalExtent[]>(addExtent, [])).toEqual([extent(1, "0/1", "0/4"), extent(2, "0/2", "0/3")]);
  expect(addExtent([extent(1, "0/1", "0/9")], extent(1, "0/2", "0/3"))).toEqual([extent(1, "0/1", "0/9")]);
});
