import { buffer } from "node:stream/consumers";
import { expect, test } from "vitest";
import { openBudget, usualBudgetBytes } from "../../../budget.ts";
import { partBytes, readParts } from "./parts.ts";

const signal = new AbortController().signal;

test("ten thousand parts hold 512 GiB, and two of the largest fit the budget", () => {
  const sizes = Array.from({ length: 10_000 }, (_, index) => partBytes(index + 1));
  expect(sizes.reduce((sum, size) => sum + size)).toBeGreaterThanOrEqual(512 * 2 ** 30);
  expect(Math.max(...sizes) * 2).toBeLessThanOrEqual(usualBudgetBytes);
  expect(Math.min(...sizes)).toBeGreaterThanOrEqual(5 << 20);
});

test("a body is cut at the part's size, and its last part is known as such", async () => {
  const whole = Buffer.alloc(partBytes(1) * 2, "0123456789");
  async function* body() {
    yield new Uint8Array(0);
    for (let offset = 0; offset < whole.length; offset += 100_003) yield whole.subarray(offset, offset + 100_003);
  }
  const next = readParts({
    chunks: body(),
    budget: openBudget(usualBudgetBytes),
    wantsSha256: true,
    ownsChunks: false,
  });
  using first = await next(1, signal);
  using second = await next(2, signal);
  expect([first.sizeBytes, first.isLast, second.sizeBytes, second.isLast]).toEqual([8 << 20, false, 8 << 20, true]);
  expect(Buffer.concat([await buffer(first.open()), await buffer(second.open())]).equals(whole)).toBe(true);
  expect((await buffer(first.open())).length).toBe(8 << 20);
});

test("an empty body is one empty part", async () => {
  async function* body(): AsyncGenerator<Uint8Array, void> {}
  using only = await readParts({
    chunks: body(),
    budget: openBudget(usualBudgetBytes),
    wantsSha256: false,
    ownsChunks: false,
  })(1, signal);
  expect([only.sizeBytes, only.isLast, only.md5.hex]).toEqual([0, true, "d41d8cd98f00b204e9800998ecf8427e"]);
});
