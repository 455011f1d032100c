import { expect, test } from "vitest";
import { incrementalDefect } from "./incremental-defects.ts";

const does = (versionNum: number, logsHints = true) => incrementalDefect({ versionNum, logsHints })?.does;

test("a minor before the one that mends a defect has it, and that one and later majors do not", () => {
  for (const versionNum of [170_000, 170_007, 180_000, 180_001]) expect(does(versionNum)).toMatch(/over 1 GB/);
  for (const versionNum of [170_008, 170_011, 180_002, 180_006, 190_000]) expect(does(versionNum)).toBeUndefined();
  expect(incrementalDefect({ versionNum: 170_007, logsHints: true })).toMatchObject({ version: "PostgreSQL 17.7" });
});

test("one that no release mends yet is had by all, as long as the settings make it show", () => {
  for (const versionNum of [170_011, 180_006]) {
    expect(does(versionNum, false)).toMatch(/stale visibility maps/);
    expect(does(versionNum, true)).toBeUndefined();
  }
});
