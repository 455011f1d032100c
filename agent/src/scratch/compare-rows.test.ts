import { expect, test } from "vitest";
import { countDifferences } from "./compare-rows.ts";

async function* rows(...texts: string[]) {
  for (const text of texts) yield { k: text[0] ?? "", h: text };
}

test("rows are counted by their key: alone on a side, the same, or changed", async () => {
  expect(await countDifferences(rows("a1", "b1", "d1", "e1"), rows("b1", "c1", "d2"))).toEqual({
    onlyLive: 2n,
    onlyRecovered: 1n,
    same: 1n,
    changed: 1n,
  });
});

test("the same row twice is twice there, and empty sides are no trouble", async () => {
  expect(await countDifferences(rows("a", "a", "b"), rows("a"))).toMatchObject({ onlyLive: 2n, same: 1n });
  expect(await countDifferences(rows(), rows("a", "b"))).toMatchObject({ onlyRecovered: 2n });
  expect(await countDifferences(rows(), rows())).toMatchObject({ same: 0n });
});
