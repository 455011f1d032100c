import { expect, test } from "vitest";
import { formatElapsed, formatRelative } from "./elapsed.ts";

test("a length of time has its two largest units", () => {
  const lengths = [
    [0, "0 s"],
    [340, "0.3 s"],
    [14_200, "14 s"],
    [60_000, "1 min"],
    [200_000, "3 min 20 s"],
    [7_261_000, "2 h 1 min"],
    [187_200_000, "2 d 4 h"],
    [86_405_000, "1 d"],
  ] as const;
  for (const [ms, text] of lengths) expect(formatElapsed(ms)).toBe(text);
});

test("a time is told from now, before and after it", () => {
  const now = new Date("2026-11-21T12:00:00Z");
  const at = (seconds: number) => formatRelative(new Date(now.getTime() + seconds * 1000), now);
  expect(at(-1)).toBe("just now");
  expect(at(-59)).toBe("59 s ago");
  expect(at(-200)).toBe("3 min ago");
  expect(at(-6 * 3600)).toBe("6 h ago");
  expect(at(28 * 60)).toBe("in 28 min");
  expect(formatRelative(undefined, now)).toBe("-");
});
