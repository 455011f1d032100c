import { expect, test } from "vitest";
import { formatLsn, parseLsn } from "./lsn.ts";

test("a WAL position is read and written as PostgreSQL writes it", () => {
  for (const text of ["0/0", "0/2000028", "16/B374D848", "FFFFFFFF/FFFFFFFF"])
    expect(formatLsn(parseLsn(text))).toBe(text);
  expect(parseLsn("1/0")).toBe(2n ** 32n);
  expect(parseLsn("a/b")).toBe(0xa0000000bn);
});

test.each(["", "0", "0/", "/0", "0/123456789", "0/0/0", "g/0", " 0/0", "-1/0"])("%j is no WAL position", (text) => {
  expect(() => parseLsn(text)).toThrow("is no WAL position");
});
