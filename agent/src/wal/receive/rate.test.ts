import { expect, test } from "vitest";
import { openRate } from "./rate.ts";

test("the rate is that of the last minute, nothing before ten seconds, and none of a position that stands still", () => {
  const rate = openRate();
  const until = (from: number, to: number) => {
    for (let second = from; second <= to; second++) rate.note(BigInt(second) * 1000n, second * 1000);
    return rate.perSecond(to * 1000);
  };
  expect(rate.perSecond(0)).toBeUndefined();
  expect(until(0, 5)).toBeUndefined();
  expect(until(6, 10)).toBe(1000n);
  expect(until(11, 100)).toBe(1000n);
  expect(rate.perSecond(130_000)).toBe(500n);
  expect(rate.perSecond(161_000)).toBe(0n);
});

test("many positions in a second count as one, and one that was set back begins anew", () => {
  const rate = openRate();
  for (let ms = 0; ms <= 20_000; ms += 10) rate.note(BigInt(ms), ms);
  expect(rate.perSecond(20_000)).toBe(1000n);
  rate.note(5n, 21_000);
  expect(rate.perSecond(22_000)).toBeUndefined();
  rate.note(10_005n, 31_000);
  expect(rate.perSecond(31_000)).toBe(1000n);
});
