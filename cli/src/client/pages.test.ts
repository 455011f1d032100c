import { expect, test } from "vitest";
import { collectPages } from "./pages.ts";

const numbers = [...Array(7).keys()];
const ask = ({ pageSize, pageToken }: { pageSize: number; pageToken: string }) => {
  const start = Number(pageToken || 0);
  const end = Math.min(start + Math.min(pageSize, 3), numbers.length);
  return Promise.resolve({ items: numbers.slice(start, end), nextPageToken: end < numbers.length ? String(end) : "" });
};

test("a list is read to its end", async () => {
  expect(await collectPages(ask, ({ items }) => items)).toEqual({ items: numbers, hasMore: false });
});

test("a list is read to its limit, and that there is more is known", async () => {
  expect(await collectPages(ask, ({ items }) => items, 4)).toEqual({ items: [0, 1, 2, 3], hasMore: true });
  expect(await collectPages(ask, ({ items }) => items, 7)).toEqual({ items: numbers, hasMore: false });
});
