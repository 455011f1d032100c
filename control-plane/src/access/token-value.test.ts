import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { hashTokenValue, newTokenValue } from "./token-value.ts";

test("a new token carries 256 bits, says what it is, and is known by its hash", () => {
  const value = newTokenValue();
  expect(value).toMatch(/^cop_[A-Za-z0-9_-]{43}$/);
  expect(hashTokenValue(value)).toEqual(createHash("sha256").update(value).digest());
  expect(newTokenValue()).not.toBe(value);
});

test("what cannot be a token is not looked up", () => {
  for (const text of ["", "cop_", "cop_short", `cop_${"a".repeat(44)}`, `cop_${"a".repeat(42)} `, "x".repeat(47)]) {
    expect(hashTokenValue(text), text).toBeUndefined();
  }
});
