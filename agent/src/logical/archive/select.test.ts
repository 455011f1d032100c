import { expect, test } from "vitest";
import type { ArchiveEntry } from "./contents.ts";
import { formatUseList, selectEntries } from "./select.ts";

function entry(id: number, kind: string, name: string, needs: number[] = [], schema = "public"): ArchiveEntry {
  const base = { owner: "o", definition: "", copy: "", section: "pre-data" } as const;
  return { id, kind, name, schema: kind === "SCHEMA" || kind === "EXTENSION" ? "" : schema, needs, ...base };
}
const entries = [
  entry(1, "SCHEMA", "s"),
  entry(2, "EXTENSION", "citext"),
  entry(3, "FUNCTION", "f()"),
  entry(10, "TABLE", "a", [2]),
  entry(11, "TABLE", "a b", []),
  entry(12, "SEQUENCE", "a_id_seq", [10]),
  entry(13, "DEFAULT", "a id", [12, 10]),
  entry(14, "TABLE", "x", [], "s"),
  entry(15, "VIEW", "v", [10, 14]),
  entry(16, "TABLE", "p"),
  entry(17, "TABLE", "p1", [16]),
  entry(18, "TABLE ATTACH", "p1", [17, 16]),
  entry(19, "TABLE", "child", [10]),
  entry(20, "TABLE DATA", "a", [10]),
  entry(21, "SEQUENCE SET", "a_id_seq", [12]),
  entry(30, "CONSTRAINT", "a a_pkey", [10]),
  entry(31, "FK CONSTRAINT", "a b_fk", [30, 10, 11]),
  entry(32, "FK CONSTRAINT", "a a_x_fk", [14, 10]),
  entry(33, "TRIGGER", "a t", [10, 3]),
  entry(34, "TABLE", "a", [], "s"),
];
const contents = { database: "shop", serverMajor: 18, toolMajor: 18, encoding: "UTF8", entries };
const select = (tables: { schema: string; name: string }[], schemas: string[] = []) =>
  selectEntries(contents, { tables, schemas });

test("a table brings what belongs to it and what that needs, in the archive's order", () => {
  const { entries: taken, warnings } = select([{ schema: "public", name: "a" }]);
  expect(taken.map(({ id }) => id)).toEqual([2, 3, 10, 12, 13, 20, 21, 30, 33]);
  expect(warnings).toEqual([
    expect.stringContaining('FK CONSTRAINT "public.a b_fk"') as unknown,
    expect.stringContaining('"public.a a_x_fk" is left out: it needs TABLE "s.x"') as unknown,
  ]);
  expect(formatUseList(taken).split("\n").slice(0, 2)).toEqual(["2;", "3;"]);
});

test("a partitioned table brings its partitions, and a partition alone stands by itself", () => {
  expect(select([{ schema: "", name: "p" }]).entries.map(({ id }) => id)).toEqual([16, 17, 18]);
  const alone = select([{ schema: "", name: "p1" }]);
  expect(alone.entries.map(({ id }) => id)).toEqual([17]);
  expect(alone.warnings).toEqual([expect.stringContaining("TABLE ATTACH") as unknown]);
});

test("what is not there, not unique, or needs a table that is left out is refused", () => {
  for (const table of [
    { schema: "", name: "A" },
    { schema: "", name: "a" },
    { schema: "public", name: "v" },
    { schema: "public", name: "child" },
  ])
    expect(() => select([table])).toThrow(expect.objectContaining({ reason: "SELECTION_REFUSED" }) as Error);
  expect(select([], ["s"]).entries.map(({ id }) => id)).toEqual([1, 14, 34]);
});
