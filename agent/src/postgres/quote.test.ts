import { expect, test } from "vitest";
import { formatConninfo, quoteIdentifier, quoteLiteral } from "./quote.ts";

test("identifiers and literals are quoted whatever they hold", () => {
  expect(quoteIdentifier(`we"ird\n`)).toBe(`"we""ird\n"`);
  expect(quoteLiteral("it's")).toBe("'it''s'");
  expect(quoteLiteral("back\\slash's")).toBe(String.raw`E'back\\slash''s'`);
});

test("a connection string quotes each value and leaves out what is not given", () => {
  expect(formatConninfo({ dbname: "a=b c", user: String.raw`o'\x`, port: 5432, host: undefined })).toBe(
    String.raw`dbname='a=b c' user='o\'\\x' port='5432'`,
  );
});

test("a NUL, which PostgreSQL would take for the end, is refused", () => {
  expect(() => quoteIdentifier("a\0b")).toThrow("NUL");
  expect(() => formatConninfo({ dbname: "\0" })).toThrow("NUL");
});
