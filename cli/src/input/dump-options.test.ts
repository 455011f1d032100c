import { toJson } from "@bufbuild/protobuf";
import { DumpOptionsSchema } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { Command } from "commander";
import { expect, test } from "vitest";
import { type DumpFlags, dumpFlags, dumpOptionsFromFlags } from "./dump-options.ts";

/** What the words of a command line ask for, as the API's JSON. */
function asked(...words: string[]) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  for (const option of dumpFlags()) command.addOption(option);
  command.parse(words, { from: "user" });
  return toJson(DumpOptionsSchema, dumpOptionsFromFlags(command.opts<DumpFlags>()));
}

const everyFlag = `--database a --database b --exclude-database c --jobs 3 --level 9 --codec gzip --connect-timeout 5s
  --lock-wait-timeout 10m --statement-timeout 2h --format plain --cluster-dump --table t* --exclude-table u --schema s
  --exclude-schema x --exclude-table-data log --data-only --no-owner --no-privileges --no-comments --no-publications
  --no-subscriptions --no-security-labels --no-large-objects --serializable-deferrable --rows-per-insert 100
  --no-role-passwords`.split(/\s+/);

test("every field of a dump's options has a flag", () => {
  const json = asked(...everyFlag);
  expect(json).toEqual({
    databases: ["a", "b"],
    excludeDatabases: ["c"],
    jobs: 3,
    compressionLevel: 9,
    connectTimeout: "5s",
    lockWaitTimeout: "600s",
    statementTimeout: "7200s",
    format: "DUMP_FORMAT_PLAIN",
    codec: "DUMP_CODEC_GZIP",
    clusterDump: true,
    tables: ["t*"],
    excludeTables: ["u"],
    schemas: ["s"],
    excludeSchemas: ["x"],
    excludeTableData: ["log"],
    contents: "DUMP_CONTENTS_DATA_ONLY",
    noOwner: true,
    noPrivileges: true,
    noComments: true,
    noPublications: true,
    noSubscriptions: true,
    noSecurityLabels: true,
    noLargeObjects: true,
    serializableDeferrable: true,
    rowsPerInsert: 100,
    noRolePasswords: true,
  });
  expect(Object.keys(json as object).toSorted()).toEqual(
    DumpOptionsSchema.fields.map(({ jsonName }) => jsonName).toSorted(),
  );
});

test("without a flag nothing is asked for, so that the defaults are the server's", () => {
  expect(asked()).toEqual({});
  expect(asked("--schema-only")).toEqual({ contents: "DUMP_CONTENTS_SCHEMA_ONLY" });
});

test("flags that contradict each other, and values that cannot be, are refused", () => {
  const wrong = [
    ["--schema-only", "--data-only"],
    ["--codec", "none", "--level", "3"],
    ["--codec", "gzip", "--level", "10"],
    ["--schema-only", "--rows-per-insert", "10"],
    ["--schema-only", "--exclude-table-data", "log"],
    ["--statement-timeout", "soon"],
    ["--connect-timeout", "2h"],
    ["--format", "tar"],
    ["--level", "0"],
  ];
  for (const words of wrong) expect(() => asked(...words), words.join(" ")).toThrow(/^error: |^--/);
});
