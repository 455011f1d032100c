import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { expect, test } from "vitest";
import type { ArchiveEntry } from "../logical/archive/contents.ts";
import type { Relation } from "./choose-relations.ts";
import { requireDumped } from "./lacking.ts";

const relation = (name: string, changes: Partial<Relation> = {}): Relation => ({
  oid: "1",
  schema: "public",
  name,
  kind: "r",
  parent: null,
  isUnlogged: false,
  extension: null,
  isConfiguration: false,
  ...changes,
});
const entry = (kind: string, name: string): ArchiveEntry => ({
  id: 1,
  kind,
  schema: "public",
  name,
  owner: "",
  definition: "",
  copy: "",
  section: "data",
  needs: [],
});

test("a chosen table that pg_dump has left out is missed, by its rows or by its definition", () => {
  const archive = {
    database: "orders",
    serverMajor: 18,
    toolMajor: 18,
    encoding: "UTF8",
    entries: [entry("TABLE", "items"), entry("TABLE DATA", "items"), entry("TABLE", "notes")],
  };
  const look = (names: string[], contents = DumpContents.UNSPECIFIED) =>
    requireDumped(
      names.map((name) => relation(name)),
      contents,
      archive,
    );
  look(["items"]);
  look(["items", "notes"], DumpContents.SCHEMA_ONLY);
  expect(() => look(["items", "notes"])).toThrow(
    expect.objectContaining({
      reason: "ARCHIVE_DIFFERS",
      message: 'pg_dump has left out what was chosen: "public.notes"',
    }),
  );
  expect(() => look(["days"], DumpContents.SCHEMA_ONLY)).toThrow('"public.days"');
  // What has no rows of its own, or leaves them to an extension, is not looked for.
  const others = [
    relation("seen", { kind: "v" }),
    relation("days", { kind: "p" }),
    relation("rates", { extension: "x" }),
  ];
  requireDumped(others, DumpContents.UNSPECIFIED, archive);
});
