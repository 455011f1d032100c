import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { RestoreRequestSchema, RestoreWhat } from "@coppice/proto/gen/coppice/control/v1/restore";
import { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { weighRequest } from "./request.ts";

type Request = Omit<MessageInitShape<typeof RestoreRequestSchema>, "$typeName">;
const weigh = (request: Request) => weighRequest(create(RestoreRequestSchema, { cluster: "shop", ...request }));
const { GLOBALS, CLUSTER } = RestoreWhat;
const tables = { tables: [{ schema: "public", name: "orders" }] };

test.for<[string, Request, string]>([
  ["a database", { database: "orders" }, "database"],
  ["a table into the present database", { database: "orders", into: true, selection: tables }, "database"],
  ["rows alone into it", { database: "o", into: true, selection: { contents: DumpContents.DATA_ONLY } }, "database"],
  ["a table under a new name", { database: "o", targetDatabase: "copy", selection: tables }, "database"],
  ["a file", { file: "/x.sql.gz", fileHost: "db7", targetDatabase: "orders" }, "file"],
  ["one database of a file", { file: "/all.sql.gz", database: "orders" }, "file"],
  ["tables of a database at a point", { database: "a", targetDatabase: "b", part: {}, selection: tables }, "part"],
  [
    "a point's dump file",
    { database: "a", part: { file: "/x", fileHost: "db7" }, selection: { contents: DumpContents.DATA_ONLY } },
    "part",
  ],
  ["the globals", { what: GLOBALS, roles: ["app"], noTablespaces: true }, "globals"],
  ["the cluster in place", { what: CLUSTER, replace: true, jobs: 4, selection: { noOwner: true } }, "cluster"],
])("%s can be asked for", ([, request, expected]) => {
  expect(weigh(request)).toBe(expected);
});

test.for<[string, Request]>([
  ["restore.database", {}],
  ["restore.target_database", { file: "/x.sql" }],
  ["restore.backup", { file: "/x.sql", targetDatabase: "a", backup: "bkp_01kaj3v8m2e7rv1q6c0d9w5x4t" }],
  ["restore.target_cluster", { file: "/x.sql", targetDatabase: "a", targetCluster: "other" }],
  ["restore.file_host", { database: "a", fileHost: "db7" }],
  ["restore.identity", { database: "a", identity: "x" }],
  ["restore.file", { what: GLOBALS, file: "/x.sql" }],
  ["restore.database", { what: GLOBALS, database: "a" }],
  ["restore.replace", { what: GLOBALS, replace: true }],
  ["restore.jobs", { what: GLOBALS, jobs: 2 }],
  ["restore.selection", { what: GLOBALS, selection: { noOwner: true } }],
  ["restore.target_database", { what: CLUSTER, targetDatabase: "a" }],
  ["restore.into", { what: CLUSTER, into: true }],
  ["restore.selection", { what: CLUSTER, selection: tables }],
  ["restore.roles", { database: "a", roles: ["app"] }],
  ["restore.no_tablespaces", { database: "a", noTablespaces: true }],
  ["restore.database", { part: {} }],
  ["restore.part", { database: "a", part: {}, physical: {} }],
  ["restore.what", { what: CLUSTER, part: {} }],
  ["restore.replace", { database: "a", part: {}, replace: true, selection: tables }],
  ["restore.part.file_host", { database: "a", part: { file: "/x" } }],
  ["restore.part.file_host", { database: "a", part: { fileHost: "db7" } }],
  ["restore.target_database", { database: "a", targetDatabase: "b", part: { file: "/x", fileHost: "db7" } }],
  ["restore.jobs", { database: "a", jobs: 2, part: { file: "/x", fileHost: "db7" } }],
  ["restore.file", { file: "/x.sql", database: "a", part: {} }],
  ["restore.into", { database: "a", into: true, replace: true }],
  ["restore.jobs", { database: "a", into: true, jobs: 2 }],
  ["restore.replace", { database: "a", replace: true, selection: tables }],
  ["restore.selection.contents", { database: "a", selection: { contents: DumpContents.DATA_ONLY } }],
])("%s is refused by its name where it does not fit: %j", ([field, request]) => {
  let caught: unknown;
  try {
    weigh(request);
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(Failure);
  expect(caught).toMatchObject({ reason: "INVALID_FIELD", fields: [{ field }] });
});
