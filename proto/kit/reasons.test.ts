import { expect, test } from "vitest";
import { reasonInfo, reasons } from "./reasons.ts";

test("the table is sorted and its names are UPPER_SNAKE", () => {
  const names = Object.keys(reasons);
  expect(names).toEqual(names.toSorted());
  for (const name of names) expect(name).toMatch(/^[A-Z]+(_[A-Z]+)*$/);
});

test("hints are commands to a reader, documentation is a sentence", () => {
  for (const { hint, doc } of Object.values(reasons)) {
    expect(hint).toMatch(/^[a-z].*[^.]$/);
    expect(doc).toMatch(/^\S.* .*\.$/);
  }
});

test("a reason that is not in the table has no information", () => {
  expect(reasonInfo("INTERNAL")?.code).toBe("internal");
  expect(reasonInfo("MOON_FULL")).toBeUndefined();
  expect(reasonInfo("toString")).toBeUndefined();
});
