import { expect, test } from "vitest";
import { missingEntries, parseToc } from "./archive-toc.ts";

const list = `;
; Archive created at 2026-11-21 01:37:56 UTC
;     Dumped from database version: 15.18
;     Dumped by pg_dump version: 18.6 (Debian 18.6-3)
;
215; 1259 16389 TABLE public t postgres
3366; 0 0 ACL public TABLE t postgres
3354; 0 16389 TABLE DATA public t postgres
3367; 0 0 SEQUENCE SET public sq postgres
3490; 2613 77 BLOB METADATA - 77 postgres
3491; 0 0 BLOBS - 77 postgres
3492; 0 0 ACL - LARGE OBJECT 77 postgres
216; 1259 16397 TABLE sp ace nl TABLE DATA postgres
`;

test("a table of contents gives its objects and leaves data out", () => {
  expect(parseToc(list)).toEqual({
    toolMajor: 18,
    objects: ["TABLE public t postgres", "ACL public TABLE t postgres", "TABLE sp ace nl TABLE DATA postgres"],
  });
  expect(() => parseToc("nothing of the kind")).toThrow("no table of contents");
});

test("entries are missed as often as they are missing", () => {
  expect(missingEntries(["a", "b", "a"], ["a", "c"])).toEqual(["b", "a"]);
  expect(missingEntries(["a", "b"], ["b", "a", "a"])).toEqual([]);
});
