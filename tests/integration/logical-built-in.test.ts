import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

let source: PostgresServer;
let fresh: PostgresServer;
let lab: DumpLab;
let dumped: Dumped;

beforeAll(async () => {
  [source, fresh] = await Promise.all([openPostgresServer({ major: 15 }), openPostgresServer({ major: 18 })]);
  lab = await openDumpLab(source);
  for (const server of [source, fresh]) await server.sql("postgres", "create role keeper; create role reader");
  await source.sql(
    "postgres",
    `create table jobs as select 1 as id;
     alter database postgres owner to keeper; alter database postgres set work_mem to '9MB';
     alter database postgres connection limit 40; alter role reader in database postgres set statement_timeout to '7s';
     revoke temporary on database postgres from public; grant create on database postgres to reader;
     comment on database postgres is 'of jobs'`,
  );
  await source.sql("template1", "create table for_all (id int); alter database template1 set search_path to for_all");
  dumped = await lab.dump(lab.dumpCommand());
  if (dumped.failure) throw dumped.failure;
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
  await fresh?.[Symbol.asyncDispose]();
});

const into = (database: string) => ({
  ...lab.restoreCommand(dumped, database, database, RestoreMode.INTO),
  connection: connectionTo(fresh),
});
const properties = (server: PostgresServer) =>
  server.sql(
    "template1",
    `select datname, pg_get_userbyid(datdba), datacl, datconnlimit, datistemplate,
       shobj_description(oid, 'pg_database'),
       (select string_agg(format('%s %s', setrole::regrole, setconfig), ',' order by setrole)
          from pg_db_role_setting where setdatabase = oid)
     from pg_database where datname in ('postgres', 'template1') order by 1`,
  );

test("a part of a built-in database leaves its owner, privileges and settings as they are", async () => {
  const before = await properties(fresh);
  const selection = create(RestoreSelectionSchema, { tables: [{ name: "jobs" }] });
  const result = await lab.restore({ ...into("postgres"), selection }, { password: fresh.password });
  expect(result).toMatchObject({ tables: 1, rows: 1n, warnings: [] });
  expect(await properties(fresh)).toBe(before);
  await fresh.sql("postgres", "drop table jobs");
});

test("a built-in database that is filled gets its owner, privileges, settings, comment and limits, as RECOVER.txt gives them", async () => {
  for (const name of ["postgres", "template1"])
    expect(await lab.restore(into(name), { password: fresh.password })).toMatchObject({ tables: 1, warnings: [] });
  expect(await properties(fresh)).toBe(await properties(source));
  expect(await portrayDatabase(fresh, "postgres")).toContain("jobs");
});

test("what a role may not give to a built-in database is told by name, and the rows are in", async () => {
  await fresh.sql(
    "postgres",
    `drop table jobs; alter database postgres owner to postgres; alter database postgres reset all;
     create role visitor login password 'of visitor'; grant keeper to visitor;
     grant create on database postgres to visitor; grant create on schema public to visitor`,
  );
  await fresh.sql("postgres", "grant create on schema public to keeper");
  const command = into("postgres");
  if (command.connection.endpoint) command.connection.endpoint.user = "visitor";
  const selection = create(RestoreSelectionSchema, { noPrivileges: true, noOwner: true });
  const { warnings, rows } = await lab.restore({ ...command, selection }, { password: "of visitor" });
  expect(rows).toBe(1n);
  expect(warnings.join("\n")).toMatch(/^setting work_mem: .*must be owner of database postgres/m);
  expect(warnings.join("\n")).toMatch(/^comment: /m);
  expect(warnings.join("\n")).not.toMatch(/^owner: /m);
});
