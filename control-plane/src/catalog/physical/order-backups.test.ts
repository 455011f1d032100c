import { expect, test } from "vitest";
import { type Ordered, orderBackups } from "./order-backups.ts";

const backup = (id: string, stopLsn: bigint, more: Partial<Ordered> = {}): Ordered => ({
  id,
  clusterId: "cls_1",
  systemIdentifier: "1",
  timeline: 1,
  startLsn: stopLsn - 10n,
  stopLsn,
  endTime: new Date(Number(stopLsn)),
  ...more,
});
const order = (backups: readonly Ordered[], seen: Readonly<Record<string, number>> = {}) =>
  orderBackups(backups, ({ systemIdentifier }) => {
    const time = seen[systemIdentifier];
    return time === undefined ? undefined : new Date(time);
  }).map(({ id }) => id);

test("backups of a server are in order of its WAL, whatever the clock said when each got its id", () => {
  expect(order([backup("b", 200n), backup("c", 300n), backup("z", 100n)])).toEqual(["z", "b", "c"]);
  const clock = { endTime: new Date(9_000) };
  expect(order([backup("a", 300n), backup("b", 200n, clock)])).toEqual(["b", "a"]);
});

test("those of a promoted server come after those of before, and after those of what it was set back from", () => {
  const promoted = { timeline: 2 };
  expect(order([backup("a", 300n, promoted), backup("b", 200n, { endTime: new Date(9_000) })])).toEqual(["b", "a"]);
  expect(order([backup("a", 150n, { ...promoted, endTime: new Date(900) }), backup("b", 300n)])).toEqual(["b", "a"]);
  // A copy was tried, and the server itself went on.
  expect(order([backup("a", 300n), backup("b", 150n, promoted)])).toEqual(["b", "a"]);
});

test("the server that was seen last comes last, and of none that was seen the one with the last backup", () => {
  const upgraded = backup("a", 50n, { systemIdentifier: "2" });
  expect(order([backup("b", 200n), upgraded], { 1: 100, 2: 200 })).toEqual(["b", "a"]);
  expect(order([backup("b", 200n), upgraded])).toEqual(["a", "b"]);
});
