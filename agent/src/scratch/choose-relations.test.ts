import { expect, test } from "vitest";
import { chooseRelations, patternOf, type Relation } from "./choose-relations.ts";

const relation = (oid: string, schema: string, name: string, kind = "r", parent: string | null = null): Relation => ({
  oid,
  schema,
  name,
  kind,
  parent,
  isUnlogged: false,
  extension: null,
  isConfiguration: false,
});
const relations = [
  relation("1", "public", "items"),
  relation("2", "public", "sales", "p"),
  relation("3", "public", "sales_2026", "p", "2"),
  relation("4", "old", "sales_2026_01", "r", "3"),
  relation("5", "old", "items"),
  relation("6", "public", "items_id_seq", "S"),
];
const choose = (tables: { schema: string; name: string }[], schemas: string[] = []) =>
  chooseRelations(
    relations,
    { schemas, tables: tables.map((table) => ({ $typeName: "coppice.common.v1.TableName" as const, ...table })) },
    "the database",
  );
const names = (found: readonly Relation[]) => found.map(({ oid }) => oid);

test("a partitioned table comes with all of its partitions, wherever they lie", () => {
  const { chosen, others } = choose([{ schema: "", name: "sales" }]);
  expect(names(chosen)).toEqual(["2", "3", "4"]);
  expect(names(others)).toEqual(["1", "5"]);
});

test("a schema comes whole, with partitions that lie in another one, and sequences are never left out", () => {
  const { chosen, others, otherSchemas } = choose([], ["old"]);
  expect(names(chosen)).toEqual(["4", "5"]);
  expect(names(others)).toEqual(["1", "2", "3"]);
  expect(otherSchemas).toEqual([]);
  expect(choose([], ["public"]).otherSchemas).toEqual(["old"]);
});

test("a name that is not there, or is there twice, is refused", () => {
  expect(() => choose([{ schema: "", name: "items" }])).toThrow("several schemas");
  expect(() => choose([{ schema: "public", name: "nothing" }])).toThrow(
    expect.objectContaining({
      message: 'the database has no table "public.nothing" at that point',
      hint: expect.stringContaining("without --table the whole database comes") as string,
    }),
  );
  expect(() => choose([], ["none"])).toThrow('no schema "none"');
});

test("a pattern for pg_dump fits exactly one relation", () => {
  expect(patternOf({ schema: "a.b", name: 'it"s*' })).toBe('"a.b"."it""s*"');
});
