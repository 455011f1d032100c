import { expect, test } from "vitest";
import { openBudget, slabBytes } from "./budget.ts";

const signal = new AbortController().signal;

test("leases are given in the order they were asked for, and only as far as the bytes go", async () => {
  const budget = openBudget(4 * slabBytes);
  const first = await budget.lease(3 * slabBytes, signal);
  const given: string[] = [];
  const large = budget.lease(2 * slabBytes, signal).then((lease) => {
    given.push("large");
    return lease;
  });
  const small = budget.lease(1, signal).then((lease) => {
    given.push("small");
    return lease;
  });
  await Promise.resolve();
  expect(given).toEqual([]);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  expect((await large).bytes + (await small).bytes).toBe(3 * slabBytes);
  expect(given).toEqual(["large", "small"]);
});

test("who gives up waiting lets the next one through", async () => {
  const budget = openBudget(2 * slabBytes);
  using _held = await budget.lease(slabBytes, signal);
  const controller = new AbortController();
  const reason = new Error("enough");
  const large = budget.lease(2 * slabBytes, controller.signal);
  const small = budget.lease(slabBytes, signal);
  controller.abort(reason);
  await expect(large).rejects.toBe(reason);
  expect((await small).bytes).toBe(slabBytes);
});

test("a lease holds as many buffers as its bytes, which are used again", async () => {
  const budget = openBudget(2 * slabBytes);
  using _held = await budget.lease(slabBytes, signal);
  const lease = await budget.lease(slabBytes, signal);
  const slab = lease.slab();
  expect(() => lease.slab()).toThrow(RangeError);
  lease[Symbol.dispose]();
  expect(() => lease.slab()).toThrow(RangeError);
  expect((await budget.lease(slabBytes, signal)).slab()).toBe(slab);
  await expect(budget.lease(3 * slabBytes, signal)).rejects.toThrow(RangeError);
});
