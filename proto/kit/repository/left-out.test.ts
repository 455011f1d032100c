import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DumpContents, DumpOptionsSchema } from "../../gen/coppice/common/v1/dump_options_pb.js";
import { leftOutOfCluster, leftOutOfDatabases } from "./left-out.ts";

test("what a dump leaves out is said of its databases, and of the cluster by itself", () => {
  const dump = create(DumpOptionsSchema, {
    databases: ["orders"],
    excludeTableData: ["public.log*", "public.audit"],
    contents: DumpContents.SCHEMA_ONLY,
    noRolePasswords: true,
  });
  expect(leftOutOfDatabases(dump)).toEqual(["rows of public.log* public.audit", "rows"]);
  expect(leftOutOfCluster(dump)).toEqual(["all but databases orders", "passwords of roles"]);
});

test("a dump of everything leaves nothing out", () => {
  const dump = create(DumpOptionsSchema);
  expect([...leftOutOfDatabases(dump), ...leftOutOfCluster(dump)]).toEqual([]);
});
