import { expect, test } from "vitest";
import { chooseStagedOid, isStagedOid } from "./staged-database.ts";

test("the oid of a staged database tells its own name from others, and fits a signed 32-bit number", () => {
  const names = Array.from({ length: 200 }, (_, index) => `coppice_restore_${index}`);
  for (const [index, name] of names.entries()) {
    const oid = chooseStagedOid(name);
    expect(oid).toBeGreaterThanOrEqual(2 ** 30);
    expect(oid).toBeLessThan(2 ** 31);
    expect(isStagedOid(oid, name)).toBe(true);
    expect(isStagedOid(oid, `${names[index - 1]}`)).toBe(false);
  }
  expect(isStagedOid(16_384, "coppice_restore_1")).toBe(false);
});
