import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  DumpCodec,
  DumpContents,
  DumpFormat,
  DumpOptionsSchema,
} from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { expect, test } from "vitest";
import { pgDumpallArguments, pgDumpArguments, resolveDumpOptions } from "./dump-options.ts";

const resolve = (given: MessageInitShape<typeof DumpOptionsSchema> = {}) =>
  resolveDumpOptions(create(DumpOptionsSchema, given));

test("nothing given means custom archives by zstd, two at a time, five minutes for a lock", () => {
  expect(resolve()).toMatchObject({
    format: "custom",
    codec: "zstd",
    jobs: 2,
    lockWaitMs: 300_000,
    isSelection: false,
  });
  expect(pgDumpArguments(resolve(), 18)).toEqual(["--format=custom", "--compress=0", "--lock-wait-timeout=300000"]);
});

test("each option becomes the argument that the tools of that version know", () => {
  const options = resolve({
    databases: ["a"],
    format: DumpFormat.PLAIN,
    codec: DumpCodec.GZIP,
    compressionLevel: 9,
    lockWaitTimeout: { seconds: 2n },
    tables: ["t*", '"T"'],
    excludeTables: ["x"],
    schemas: ["s"],
    excludeSchemas: ["y"],
    excludeTableData: ["--z"],
    contents: DumpContents.DATA_ONLY,
    noOwner: true,
    noPrivileges: true,
    noLargeObjects: true,
    rowsPerInsert: 100,
  });
  const common =
    '--format=plain --lock-wait-timeout=2000 --data-only --no-owner --no-privileges --rows-per-insert=100 --strict-names --table=t* --table="T" --exclude-table=x --schema=s --exclude-schema=y --exclude-table-data=--z';
  expect(pgDumpArguments(options, 15).join(" ")).toBe(`${common} --no-blobs`);
  expect(pgDumpArguments(options, 16).join(" ")).toBe(`${common} --no-large-objects`);
});

test("a cluster dump leaves databases out by their very names", () => {
  const args = pgDumpallArguments(resolve({ clusterDump: true, noComments: true }), ['a"b.c*']);
  expect(args).toEqual(["--lock-wait-timeout=300000", "--no-comments", '--exclude-database="a""b.c*"']);
});

test("what contradicts itself is refused", () => {
  expect(() => resolve({ codec: DumpCodec.GZIP, compressionLevel: 10 })).toThrow("codec gzip has no level 10");
  expect(() => resolve({ codec: DumpCodec.NONE, compressionLevel: 1 })).toThrow("codec none has no level 1");
  expect(() => resolve({ tables: ["t"] })).toThrow("of which databases");
  expect(() => resolve({ clusterDump: true, databases: ["a"], noLargeObjects: true })).toThrow(
    "knows nothing like databases, no_large_objects",
  );
});
