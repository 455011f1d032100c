import { expect, test } from "vitest";
import { formatKeptDatabase, formatStagedDatabase } from "./restore-names.ts";

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

test("a staged database is named after its operation, as agents accept it", () => {
  expect(formatStagedDatabase("op_01jd3kz9m8f7s6r5q4p3n2b1a0")).toBe("coppice_restore_01jd3kz9m8f7s6r5q4p3n2b1a0");
});
