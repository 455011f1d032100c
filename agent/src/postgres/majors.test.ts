import { expect, test } from "vitest";
import { chooseToolMajor, majorOf, requireRestorable, requireRestoreTool, requireSupported } from "./majors.ts";

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

test("pg_restore from 17 on is refused for a server before 17", () => {
  expect(() => requireRestoreTool(18, 15)).toThrow("pg_restore 18");
  expect(() => requireRestoreTool(16, 15)).not.toThrow();
  expect(() => requireRestoreTool(18, 17)).not.toThrow();
});
