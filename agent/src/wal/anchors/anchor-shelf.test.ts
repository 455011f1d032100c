import { expect, test } from "vitest";
import { isDue } from "./anchor-shelf.ts";

const anchor = { timeline: 1, lsn: 100n, timeUs: 5n };

test("the first anchor is stored, one that says more after a minute, one of an idle server after ten", () => {
  expect(isDue(anchor, undefined)).toBe(true);
  const moved = { ...anchor, lsn: 101n, timeUs: 6n };
  expect([59_999, 60_000].map((ageMs) => isDue(moved, { anchor, ageMs }))).toEqual([false, true]);
  const idle = { ...anchor, timeUs: 6n };
  expect([599_999, 600_000].map((ageMs) => isDue(idle, { anchor, ageMs }))).toEqual([false, true]);
  expect(isDue(anchor, { anchor, ageMs: 600_000 })).toBe(false);
  expect(isDue({ ...anchor, timeline: 2 }, { anchor, ageMs: 60_000 })).toBe(true);
});
