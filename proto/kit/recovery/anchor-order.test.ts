import { expect, test } from "vitest";
import { tellsOrder } from "./anchor-order.ts";

test("of a server that stands still a later time counts, and an earlier one by a clock that was set back does not", () => {
  const at = (timeUs: bigint, lsn = 100n, timeline = 1) => ({ timeline, timeUs, lsn });
  expect(tellsOrder([], at(5n))).toBe(true);
  expect(tellsOrder([at(5n)], at(5n))).toBe(true);
  expect(tellsOrder([at(5n)], at(6n))).toBe(true);
  expect(tellsOrder([at(5n), at(9n)], at(6n))).toBe(false);
  // Elsewhere it is news: something was written meanwhile.
  expect(tellsOrder([at(9n)], at(6n, 101n))).toBe(true);
  expect(tellsOrder([at(9n)], at(6n, 100n, 2))).toBe(true);
});
