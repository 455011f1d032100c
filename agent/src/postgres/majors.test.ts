import { expect, test } from "vitest";
import { chooseToolMajor, knowsSettingsOf, majorOf, requireRestorable, requireSupported } from "./majors.ts";

test("tools of the wanted major are chosen, else the next newer, never older", () => {
  expect(majorOf(180_006)).toBe(18);
  expect(chooseToolMajor([18, 15, 17], 17)).toBe(17);
  expect(chooseToolMajor([18, 15, 17], 16)).toBe(17);
  expect(chooseToolMajor([15], 16)).toBeUndefined();
});

test("servers before 15 and restores into an older major are refused", () => {
  expect(() => requireSupported(140_009)).toThrow("PostgreSQL 14");
  expect(() => requireSupported(150_001)).not.toThrow();
  expect(() => requireRestorable(18, 15)).toThrow("older PostgreSQL 15");
  expect(() => requireRestorable(15, 18)).not.toThrow();
});

test("what tools from 17 on set is not known to a server before 17", () => {
  expect([knowsSettingsOf(18, 15), knowsSettingsOf(17, 16)]).toEqual([false, false]);
  expect([knowsSettingsOf(16, 15), knowsSettingsOf(18, 17)]).toEqual([true, true]);
});
