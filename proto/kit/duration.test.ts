import { expect, test } from "vitest";
import { formatDuration, parseDuration } from "./duration.ts";

test("durations are read", () => {
  const table: [string, number][] = [
    ["0s", 0],
    ["200ms", 200],
    ["30s", 30_000],
    ["5m", 300_000],
    ["1h30m", 5_400_000],
    ["14d", 1_209_600_000],
    ["1m1s1ms", 61_001],
    ["90m", 5_400_000],
  ];
  for (const [text, ms] of table) expect(parseDuration(text), text).toBe(ms);
});

test("what is no duration is refused", () => {
  for (const text of ["", "5", "s", "-1s", "1.5h", "1 h", "1s1h", "1m1m", "5M", "1h\n"]) {
    expect(() => parseDuration(text), text).toThrow(expect.objectContaining({ reason: "INVALID_FIELD" }));
  }
});

test("formatting is the inverse of parsing", () => {
  for (const ms of [0, 1, 999, 1000, 90_000, 5_400_000, 86_400_000, 1_209_600_001]) {
    expect(parseDuration(formatDuration(ms))).toBe(ms);
  }
  expect(formatDuration(90_000)).toBe("1m30s");
  expect(formatDuration(0)).toBe("0s");
});
