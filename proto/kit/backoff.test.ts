import { expect, test } from "vitest";
import { backoffMs } from "./backoff.ts";

test("the bound doubles up to the cap", () => {
  const bounds = [0, 1, 2, 3, 4, 2000].map((attempt) =>
    backoffMs(attempt, { baseMs: 100, capMs: 1000, random: () => 1 }),
  );
  expect(bounds).toEqual([100, 200, 400, 800, 1000, 1000]);
});

test("the wait lies anywhere below the bound", () => {
  expect(backoffMs(3, { baseMs: 100, capMs: 1000, random: () => 0 })).toBe(0);
  expect(backoffMs(3, { baseMs: 100, capMs: 1000, random: () => 0.5 })).toBe(400);
  for (let attempt = 0; attempt < 50; attempt++) {
    const ms = backoffMs(attempt, { baseMs: 100, capMs: 1000 });
    expect(ms).toBeGreaterThanOrEqual(0);
    expect(ms).toBeLessThan(1000);
  }
});
