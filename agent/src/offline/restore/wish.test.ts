import { create } from "@bufbuild/protobuf";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { expect, test } from "vitest";
import { readWish, type WishOptions } from "./wish.ts";

const names = ["postgres", "orders", "template1", "stock"];
const manifest = create(BackupManifestSchema, {
  content: { case: "dump", value: { databases: names.map((name) => ({ name })) } },
});

test("everything is the globals and every database, those of a new cluster last", () => {
  const { globals, databases, all } = readWish({ all: true }, manifest);
  expect({ globals, all }).toEqual({ globals: true, all: true });
  expect(databases.map(({ name }) => name)).toEqual(["orders", "stock", "postgres", "template1"]);
});

test("one database keeps its name or gets another, with the globals where they are asked for", () => {
  expect(readWish({ database: "orders" }, manifest)).toMatchObject({
    globals: false,
    databases: [{ name: "orders", target: "orders" }],
  });
  expect(readWish({ database: "orders", as: "copy", globals: true }, manifest)).toMatchObject({
    globals: true,
    databases: [{ name: "orders", target: "copy" }],
  });
  expect(readWish({ globals: true }, manifest).databases).toEqual([]);
});

test("flags that contradict each other, or say nothing, are refused", () => {
  const wrong: WishOptions[] = [
    {},
    { as: "copy" },
    { replace: true },
    { all: true, database: "orders" },
    { all: true, globals: true },
    { all: true, as: "copy" },
  ];
  for (const options of wrong)
    expect(() => readWish(options, manifest), JSON.stringify(options)).toThrow(
      expect.objectContaining({ reason: "INVALID_FIELD" }),
    );
});
