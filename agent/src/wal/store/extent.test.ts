import { expect, test } from "vitest";
import { beforeMissing, type WalExtent } from "./extent.ts";

const run = (startLsn: bigint, endLsn: bigint, timeline = 1): WalExtent => ({ timeline, startLsn, endLsn });

test("what was stored ahead of a file that still waits does not count, and everything else does", () => {
  const extents = [run(10n, 30n), run(40n, 60n), run(60n, 70n, 2)];
  expect(beforeMissing(extents, [])).toEqual(extents);
  // It was stored, and the server has not heard of it.
  expect(beforeMissing(extents, [run(20n, 30n), run(40n, 50n)])).toEqual(extents);
  expect(beforeMissing(extents, [run(30n, 40n), run(40n, 50n), run(50n, 60n)])).toEqual([run(10n, 30n)]);
  // A gap of before is one.
  expect(beforeMissing(extents, [run(60n, 70n)])).toEqual([run(10n, 30n), run(40n, 60n)]);
  // What is stored of a part of it is.
  expect(beforeMissing([run(10n, 33n)], [run(30n, 40n)])).toEqual([run(10n, 33n)]);
});
