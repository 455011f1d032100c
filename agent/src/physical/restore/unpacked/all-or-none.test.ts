import { sleep } from "@coppice/proto/kit/sleep";
import { expect, test } from "vitest";
import { allOrNone } from "./all-or-none.ts";

const { signal } = new AbortController();

test("the works go on at once, and it is over when all are", async () => {
  const said: string[] = [];
  const met = Promise.withResolvers<void>();
  await allOrNone(signal, [
    async () => {
      await met.promise;
      said.push("first");
    },
    async () => {
      met.resolve();
      said.push("second");
    },
  ]);
  expect(said.toSorted()).toEqual(["first", "second"]);
});

test("when one fails the others are stopped and waited for, and the first failure is the one that is told", async () => {
  let isStopped = false;
  const works = allOrNone(signal, [
    async (stop) => {
      await sleep(100_000, stop).catch(() => {});
      await new Promise((resolve) => setImmediate(resolve));
      isStopped = true;
      throw new Error("a later one");
    },
    () => Promise.reject(new Error("the first one")),
  ]);
  await expect(works).rejects.toThrow("the first one");
  expect(isStopped).toBe(true);
});
