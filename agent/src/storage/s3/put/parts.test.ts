import { PassThrough } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setImmediate } from "node:timers/promises";
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

/** A body of so many zeros. */
async function* zeros(bytes: number) {
  const chunk = Buffer.alloc(1 << 20);
  for (let left = bytes; left > 0; left -= chunk.length) yield chunk.subarray(0, left);
}

const segmentBytes = 17 << 20;

test("a body that gives nothing yet holds nothing", async () => {
  const budget = openBudget(partBytes(1));
  const read = (chunks: AsyncIterator<Uint8Array>) =>
    readParts({ chunks, budget, wantsSha256: false, ownsChunks: false, restMs: 60_000 })(1, signal);
  const silent = new PassThrough();
  const late = read(silent[Symbol.asyncIterator]());
  await setImmediate();
  using first = await read(zeros(3));
  expect(first.sizeBytes).toBe(3);
  first[Symbol.dispose]();
  silent.end("late");
  using second = await late;
  expect((await buffer(second.open())).toString()).toBe("late");
});

test("bodies that give hardly anything hold up nobody, and count again when their part is full", async () => {
  const budget = openBudget(usualBudgetBytes);
  const read = (chunks: AsyncIterator<Uint8Array>, number: number, mostBytes?: number) =>
    readParts({ chunks, budget, wantsSha256: false, ownsChunks: false, mostBytes, restMs: 50 })(number, signal);
  // The WAL of a backup that has stored 8 GiB of it, of which no more comes, and that of one which has just begun.
  const [old, young] = [new PassThrough(), new PassThrough()];
  const slow = [read(old[Symbol.asyncIterator](), 769), read(young[Symbol.asyncIterator](), 1)] as const;
  old.write("a");
  young.write("b");
  const trickle = setInterval(() => young.write("b"), 10);
  await setImmediate();
  // The archive of the second backup, beyond 8 GiB, and segments that wait behind it.
  using large = await read(zeros(partBytes(769)), 769);
  using segment = await read(zeros(1), 1, segmentBytes);
  expect([large.sizeBytes, segment.sizeBytes]).toEqual([partBytes(769), 1]);

  clearInterval(trickle);
  old.end();
  young.end();
  using one = await slow[0];
  using other = await slow[1];
  large[Symbol.dispose]();
  segment[Symbol.dispose]();
  const order: string[] = [];
  const all = budget.lease(usualBudgetBytes, signal).then(() => order.push("all"));
  await setImmediate();
  order.push("stored");
  one[Symbol.dispose]();
  other[Symbol.dispose]();
  await all;
  expect(order).toEqual(["stored", "all"]);
});
