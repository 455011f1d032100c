import { expect, test } from "vitest";
import { idPrefixes, isId, newId, type IdPrefix } from "./id.ts";

test("a new id is an id of its prefix and of no other", () => {
  for (const prefix of Object.keys(idPrefixes) as IdPrefix[]) {
    const id = newId(prefix);
    expect(isId(id)).toBe(true);
    expect(isId(id, prefix)).toBe(true);
    expect(isId(id, prefix === "cls" ? "op" : "cls")).toBe(false);
  }
});

test("ids sort by time", () => {
  const times = [0, 1, 1_000, 1_700_000_000_000, 1_700_000_000_001, 2 ** 47];
  const ids = times.map((time) => newId("op", { now: () => time }));
  expect(ids.toSorted()).toEqual(ids);
});

test("an id is the UUID of version 7 that its time and random bytes make", () => {
  const zero = newId("op", { now: () => 0, random: () => new Uint8Array(10) });
  // 00000000-0000-7000-8000-000000000000
  expect(zero).toBe("op_0000000000e008000000000000");
  const full = newId("op", { now: () => 2 ** 48 - 1, random: () => new Uint8Array(10).fill(255) });
  // ffffffff-ffff-7fff-bfff-ffffffffffff
  expect(full).toBe("op_7zzzzzzzzzfzzvzzzzzzzzzzzz");
});

test("a thousand ids differ", () => {
  expect(new Set(Array.from({ length: 1000 }, () => newId("bkp", { now: () => 1 }))).size).toBe(1000);
});

test("names and broken ids are no ids", () => {
  const id = newId("cls");
  for (const text of ["", "shop", "cls_", id.toUpperCase(), `${id}0`, id.slice(0, -1), `x${id}`, `${id}\n`]) {
    expect(isId(text)).toBe(false);
  }
});
