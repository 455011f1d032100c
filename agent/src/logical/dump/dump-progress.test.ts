import { expect, test } from "vitest";
import { dumpProgress } from "./dump-progress.ts";

function watch(sizes: [string, bigint | undefined][]) {
  const seen: [string, bigint, bigint | undefined, number][] = [];
  const report = dumpProgress(sizes, ({ item, doneBytes, totalBytes, doneItems }) =>
    seen.push([item, doneBytes, totalBytes, doneItems]),
  );
  return { seen, report };
}

test("items that run side by side add up, none counts for more than its size, and the end is the whole", () => {
  const { seen, report } = watch([
    ["a", 100n],
    ["b", 50n],
  ]);
  report("globals", 7);
  report("a", 40);
  report("b", 60);
  report("a", 30);
  report("b", "done");
  report("a", "done");
  expect(seen).toEqual([
    ["globals", 0n, 150n, 0],
    ["a", 40n, 150n, 0],
    ["b", 90n, 150n, 0],
    ["a", 90n, 150n, 0],
    ["b", 90n, 150n, 1],
    ["a", 150n, 150n, 2],
  ]);
});

test("with an unknown size there are bytes and no total", () => {
  const { seen, report } = watch([["a", undefined]]);
  report("a", 40);
  report("a", "done");
  expect(seen).toEqual([
    ["a", 40n, undefined, 0],
    ["a", 40n, undefined, 1],
  ]);
});
