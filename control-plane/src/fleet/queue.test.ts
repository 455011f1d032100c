import { expect, test } from "vitest";
import { Queue } from "./queue.ts";

async function drain<T>(queue: Queue<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of queue) items.push(item);
  return items;
}

test("items come out in the order they went in, and close ends the loop after the last", async () => {
  const queue = new Queue<number>(3);
  for (const item of [1, 2, 3]) expect(queue.offer(item)).toBe(true);
  queue.close();
  expect(await drain(queue)).toEqual([1, 2, 3]);
});

test("a consumer that waits is woken by an item and by the end", async () => {
  const queue = new Queue<number>(1);
  const drained = drain(queue);
  await queue.push(1);
  await queue.push(2);
  await queue.push(3);
  // All three must be out of the waiting line before the end, or close would refuse them.
  expect(queue.size).toBeLessThanOrEqual(1);
  queue.close();
  expect(await drained).toEqual([1, 2, 3]);
});

test("offer refuses and push waits while it is full", async () => {
  const queue = new Queue<string>(1);
  await queue.push("a");
  expect(queue.offer("b")).toBe(false);
  const done: string[] = [];
  const waiting = ["c", "d"].map((item) => queue.push(item).then(() => done.push(item)));
  await Promise.resolve();
  expect(done).toEqual([]);
  expect(queue.size).toBe(3);
  const reader = queue[Symbol.asyncIterator]();
  expect(await reader.next()).toEqual({ value: "a", done: false });
  expect(await reader.next()).toEqual({ value: "c", done: false });
  expect(await reader.next()).toEqual({ value: "d", done: false });
  await Promise.all(waiting);
  expect(done).toEqual(["c", "d"]);
});

test("nothing overtakes a producer that waits", async () => {
  const queue = new Queue<string>(2);
  const reader = queue[Symbol.asyncIterator]();
  for (const item of ["a", "b"]) await queue.push(item);
  const waiting = queue.push("c");
  await reader.next();
  expect(queue.offer("d")).toBe(false);
  await waiting;
  await reader.next();
  expect(queue.offer("d")).toBe(true);
  expect((await reader.next()).value).toBe("c");
  expect((await reader.next()).value).toBe("d");
});

test("close refuses producers that wait and those that come later", async () => {
  const queue = new Queue<number>(1);
  await queue.push(1);
  const waiting = queue.push(2);
  queue.close();
  await expect(waiting).rejects.toThrow("closed");
  await expect(queue.push(3)).rejects.toThrow("closed");
  expect(queue.offer(4)).toBe(false);
  expect(queue.isEnded).toBe(true);
  expect(await drain(queue)).toEqual([1]);
});

test("fail drops what lies in it and reaches the consumer and the producers", async () => {
  const error = new Error("link lost");
  const queue = new Queue<number>(1);
  await queue.push(1);
  const waiting = queue.push(2);
  queue.fail(error);
  queue.close();
  await expect(waiting).rejects.toBe(error);
  await expect(queue.push(3)).rejects.toBe(error);
  await expect(drain(queue)).rejects.toBe(error);
});

test("fail wakes a consumer that waits", async () => {
  const queue = new Queue<number>(1);
  const drained = drain(queue);
  queue.fail(new Error("link lost"));
  await expect(drained).rejects.toThrow("link lost");
});

test("a consumer that leaves its loop ends the queue for the producers", async () => {
  const queue = new Queue<number>(1);
  await queue.push(1);
  const waiting = [2, 3].map((item) => queue.push(item));
  for await (const item of queue) {
    expect(item).toBe(1);
    break;
  }
  await expect(waiting[0]).resolves.toBeUndefined();
  await expect(waiting[1]).rejects.toThrow("closed");
  expect(queue.size).toBe(0);
});

test("an aborted push leaves the line and its item never comes out", async () => {
  const queue = new Queue<number>(1);
  await queue.push(1);
  const controller = new AbortController();
  const waiting = queue.push(2, controller.signal);
  controller.abort("stop");
  await expect(waiting).rejects.toBe("stop");
  await expect(queue.push(3, controller.signal)).rejects.toBe("stop");
  queue.close();
  expect(await drain(queue)).toEqual([1]);
});

test("many producers and one consumer lose and repeat nothing", async () => {
  const queue = new Queue<number>(4);
  const producers = Array.from({ length: 10 }, async (_, producer) => {
    for (let item = 0; item < 100; item++) await queue.push(producer * 100 + item);
  });
  const drained = drain(queue);
  await Promise.all(producers);
  queue.close();
  const items = await drained;
  expect(items.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, index) => index));
});
