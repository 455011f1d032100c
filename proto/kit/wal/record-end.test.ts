import { expect, test } from "vitest";
import { headerEnd, recordEnd } from "./record-end.ts";

const segment = 16n << 20n;

test.each([
  ["behind the header of a segment it is the segment's beginning", 3n * segment + 40n, 3n * segment],
  ["behind the header of a page it is the page's beginning", 3n * segment + 8192n + 24n, 3n * segment + 8192n],
  ["elsewhere it is the position itself", 3n * segment + 8192n + 32n, 3n * segment + 8192n + 32n],
])("%s", (_, lsn, end) => {
  expect(recordEnd(lsn, segment)).toBe(end);
  expect(headerEnd(end, segment)).toBe(lsn);
});
