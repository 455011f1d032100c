import { expect, test } from "vitest";
import { findPassword } from "./password-file.ts";

const key = { hosts: ["db.example"], port: 5432, database: "shop", user: "app" };

test("the first line that matches gives the password", () => {
  const text = "# db.example:5432:shop:app:comment\n\nother:*:*:*:no\ndb.example:5432:*:app:first\n*:*:*:*:second\n";
  expect(findPassword(text, key)).toBe("first");
  expect(findPassword(text, { ...key, user: "else" })).toBe("second");
  expect(findPassword("other:*:*:*:no\n", key)).toBeUndefined();
});

test("backslashes protect colons and themselves, in names and in the password", () => {
  const text = String.raw`db.example:5432:sh\:op:a\\pp:p\:a\\ss` + "\r\n";
  expect(findPassword(text, { ...key, database: "sh:op", user: String.raw`a\pp` })).toBe(String.raw`p:a\ss`);
});

test("an escaped asterisk is a name, and an incomplete line is none", () => {
  expect(findPassword(String.raw`\*:*:*:*:no`, key)).toBeUndefined();
  expect(findPassword(String.raw`\*:*:*:*:yes`, { ...key, hosts: ["*"] })).toBe("yes");
  expect(findPassword("*:*:*:*\n*:*:*:*:", key)).toBe("");
});
