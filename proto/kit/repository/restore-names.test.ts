import { expect, test } from "vitest";
import {
  formatKeptDatabase,
  formatScratchFolder,
  formatStagedDatabase,
  isInScratchFolder,
  nameCopy,
} from "./restore-names.ts";

const time = new Date("2026-11-20T02:55:07.123Z");

test("a replaced database is kept under its name and the time", () => {
  expect(formatKeptDatabase("orders", time)).toBe("orders_before_20261120025507");
});

test("a kept name fits into 63 bytes and is cut between characters", () => {
  expect(formatKeptDatabase("a".repeat(63), time)).toBe(`${"a".repeat(41)}_before_20261120025507`);
  for (const name of ["ä".repeat(31), "🦉".repeat(15), `x${"🦉".repeat(15)}`, "e\u0301".repeat(21)]) {
    const kept = formatKeptDatabase(name, time);
    expect(Buffer.byteLength(kept), name).toBeLessThanOrEqual(63);
    expect(kept.isWellFormed(), name).toBe(true);
    expect(name.startsWith(kept.replace(/_before_\d{14}$/, "")), name).toBe(true);
  }
});

test("a proposed name for a copy fits into 63 bytes and is cut between characters", () => {
  expect(nameCopy("orders", "copy")).toBe("orders-copy");
  expect(nameCopy("a".repeat(63), "copy")).toBe(`${"a".repeat(58)}-copy`);
  expect(nameCopy("🦉".repeat(15), "schemas")).toBe(`${"🦉".repeat(13)}-schemas`);
});

test("a staged database is named after its operation, as agents accept it", () => {
  expect(formatStagedDatabase("op_01jd3kz9m8f7s6r5q4p3n2b1a0")).toBe("coppice_restore_01jd3kz9m8f7s6r5q4p3n2b1a0");
});

test("what lies in a scratch folder is known by its path", () => {
  const folder = formatScratchFolder("/var/tmp", "op_01kaj3v8m2e7rv1q6c0d9w5x4t");
  expect(folder).toBe("/var/tmp/coppice-op_01kaj3v8m2e7rv1q6c0d9w5x4t");
  expect([`${folder}/data`, `${folder}/run`, folder, "/srv/data"].map(isInScratchFolder)).toEqual([
    true,
    true,
    false,
    false,
  ]);
});
