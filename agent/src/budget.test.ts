import { setImmediate } from "node:timers/promises";
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

test("a lease at rest does not hold up others, counts again afterwards, and gives back what it counts", async () => {
  const budget = openBudget(4 * slabBytes);
  const idle = await budget.lease(3 * slabBytes, signal);
  const given: string[] = [];
  const take = async (name: string, slabs: number) => {
    const lease = await budget.lease(slabs * slabBytes, signal);
    given.push(name);
    return lease;
  };
  const large = take("large", 4);
  const next = take("next", 2);
  await setImmediate();
  expect(given).toEqual([]);
  idle.rest(true);
  idle.rest(true);
  const whole = await large;
  idle.rest(false);
  whole[Symbol.dispose]();
  await setImmediate();
  // The one that rested counts: with what is asked for it would be more than all.
  expect(given).toEqual(["large"]);
  idle.rest(true);
  using _two = await next;
  idle[Symbol.dispose]();
  idle.rest(false);
  idle.rest(true);
  // Neither more nor less than what is left of all.
  const other = await take("other", 2);
  const late = take("late", 1);
  await setImmediate();
  expect(given).toEqual(["large", "next", "other"]);
  other[Symbol.dispose]();
  using _late = await late;
});

test("buffers that were held beyond the budget are not kept", async () => {
  const budget = openBudget(2 * slabBytes);
  const idle = await budget.lease(2 * slabBytes, signal);
  const beyond = [idle.slab(), idle.slab()];
  idle.rest(true);
  using busy = await budget.lease(2 * slabBytes, signal);
  idle[Symbol.dispose]();
  busy.rest(true);
  using next = await budget.lease(slabBytes, signal);
  expect(beyond).not.toContain(next.slab());
});
