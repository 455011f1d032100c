import { expect, test } from "vitest";
import { openSeenGaps } from "./seen-gaps.ts";

const at = (minutes: number) => new Date(minutes * 60_000);

test("a gap is believed when the same one is seen after a while, and none that went away meanwhile", () => {
  const seen = openSeenGaps(300_000);
  expect(seen.note("cls_1", "one", at(0))).toBe(false);
  expect(seen.note("cls_1", "one", at(4))).toBe(false);
  expect(seen.note("cls_2", "one", at(5))).toBe(false);
  expect(seen.note("cls_1", "one", at(5))).toBe(true);
  expect(seen.note("cls_1", "another", at(6))).toBe(false);
  expect(seen.note("cls_1", undefined, at(7))).toBe(false);
  expect(seen.note("cls_1", "another", at(12))).toBe(false);
  expect(seen.note("cls_1", "another", at(17))).toBe(true);
});
