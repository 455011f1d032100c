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

test("the order is the same however they come in, also where each of three timelines comes after another", () => {
  // Always the same ones.
  let state = 7;
  const any = (below: number) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
  for (let round = 0; round < 2_000; round++) {
    const some = Array.from({ length: 3 + any(4) }, (_, index) =>
      backup(`b${index}`, BigInt(10 + any(30)), {
        timeline: 1 + any(4),
        startLsn: BigInt(any(10)),
        systemIdentifier: String(any(8) === 0 ? 2 : 1),
        endTime: new Date(any(12)),
      }),
    );
    const expected = order(some);
    expect(expected).toHaveLength(some.length);
    expect(order(some.toReversed())).toEqual(expected);
    expect(order([...some.slice(2), ...some.slice(0, 2)])).toEqual(expected);
  }
  const cycle = [
    backup("a", 20n, { startLsn: 16n, endTime: new Date(6) }),
    backup("b", 14n, { startLsn: 12n, timeline: 2, endTime: new Date(6) }),
    backup("c", 18n, { startLsn: 16n, timeline: 3, endTime: new Date(0) }),
  ];
  expect(order(cycle)).toEqual(order(cycle.toReversed()));
});
