import { expect, test } from "vitest";
import { formatLinks, parseLinks } from "./links-text.ts";

test.each([
  ["0/40000A8 1F/FFFFFFC8", { beforeLsn: 0x40000a8n, lastLsn: 0x1fffffffc8n }],
  ["0/0 -", { beforeLsn: 0n, lastLsn: undefined }],
  ["- -", { beforeLsn: undefined, lastLsn: undefined }],
])("links are kept as %s, and read again", (text, links) => {
  expect(formatLinks(links)).toBe(text);
  expect(parseLinks(text)).toEqual(links);
});

test.each(["", "-", "0/40000A8", "0/40000A8 1F/FFFFFFC8 ", "0/40000A8 x", "0/123456789 -", "0/40000A8 -\n"])(
  "%j says nothing",
  (text) => expect(parseLinks(text)).toBeUndefined(),
);
