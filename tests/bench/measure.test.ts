import { expect, test } from "vitest";
import { elapsedMs, median, takeTurns } from "./measure.ts";

test.each([
  { values: [7], middle: 7 },
  { values: [9, 1, 5], middle: 5 },
  { values: [10, 9, 100], middle: 10 },
  { values: [4, 1, 3, 2], middle: 2.5 },
])("the median of $values is $middle", ({ values, middle }) => {
  const given = [...values];
  expect(median(given)).toBe(middle);
  expect(given).toEqual(values);
});

test("no values have no median", () => {
  expect(() => median([])).toThrow("no values");
});

test("contestants run in turn, and the warm-up of each is told and not counted", async () => {
  const order: string[] = [];
  let clock = 0;
  const contestant = (name: string) => () => {
    order.push(name);
    return Promise.resolve((clock += 1));
  };
  const told: [string, number, number][] = [];
  const taken = await takeTurns(
    { ours: contestant("ours"), peer: contestant("peer") },
    { runs: 2, onRun: (...run) => told.push(run) },
  );
  expect(order).toEqual(["ours", "peer", "ours", "peer", "ours", "peer"]);
  expect(taken).toEqual({ ours: [3, 5], peer: [4, 6] });
  expect(told).toEqual([
    ["ours", 0, 1],
    ["peer", 0, 2],
    ["ours", 1, 3],
    ["peer", 1, 4],
    ["ours", 2, 5],
    ["peer", 2, 6],
  ]);
});

test("a contestant that fails ends the comparison", async () => {
  const broken = { ours: () => Promise.resolve(1), peer: () => Promise.reject(new Error("no space")) };
  await expect(takeTurns(broken, { runs: 3 })).rejects.toThrow("no space");
});

test("the time of work is its own, and its error comes out", async () => {
  expect(await elapsedMs(() => Promise.resolve())).toBeLessThan(1000);
  await expect(elapsedMs(() => Promise.reject(new Error("gone")))).rejects.toThrow("gone");
});
