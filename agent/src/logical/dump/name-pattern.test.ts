import { expect, test } from "vitest";
import { patternParts } from "./name-pattern.ts";

test.each([
  ["sessions", ["^(sessions)$"]],
  ["Web.Sess*", ["^(web)$", "^(sess.*)$"]],
  ['"Web".s?ss', ["^(Web)$", "^(s.ss)$"]],
  ['a"B.c*""d"e', [String.raw`^(aB\.c\*"de)$`]],
  ["price$", [String.raw`^(price\$)$`]],
  ["t[0-9]|list[]", [String.raw`^(t[0-9]|list\[\])$`]],
])("%s is matched as pg_dump does", (pattern, parts) => {
  expect(patternParts(pattern)).toEqual(parts);
});
