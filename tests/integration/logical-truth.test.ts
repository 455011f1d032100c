import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents, DumpFormat } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { RestoreSelectionSchema } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

let server: PostgresServer;
let lab: DumpLab;
beforeAll(async () => {
  server = await openPostgresServer({ major: 18 });
  lab = await openDumpLab(server);
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});
beforeEach(() => {
  lab.log.length = 0;
});

const query = async (database: string, text: string) => (await server.sql(database, text)).trim();
const selecting = (selection: MessageInitShape<typeof RestoreSelectionSchema>) => ({
  selection: create(RestoreSelectionSchema, selection),
});
/** At once, while the restore waits for what it says to be taken. */
function runNow(database: string, text: string): void {
  const address = ["-h", "127.0.0.1", "-p", String(server.port), "-U", server.superuser];
  const env = { ...process.env, PGPASSWORD: server.password };
  execFileSync(join(server.binDir, "psql"), [...address, "-qc", text, database], { env });
}
const once = (run: () => void) => ({
  log(line: string) {
    lab.log.push(line);
    if (line.startsWith("loaded;")) run();
  },
});

test("what was committed into a present database before a restore failed or was cancelled is said to be there", async () => {
  await server.sql("postgres", "create database rows");
  await server.sql("rows", "create table t as select generate_series(1, 100) as id");
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["rows"] }));
  const command = { ...lab.restoreCommand(dumped, "rows", "rows", RestoreMode.INTO) };
  const rowsAlone = { ...command, ...selecting({ contents: DumpContents.DATA_ONLY }) };
  const stop = new AbortController();
  const reason = new Failure("CANCELLED", "it was cancelled");
  const cancelled = lab.restore(rowsAlone, { signal: stop.signal, ...once(() => stop.abort(reason)) });
  // Not "cancelled", as if nothing had been done: whoever settles it is told of the commit.
  await expect(cancelled).rejects.toMatchObject({
    reason: "OUTCOME_UNKNOWN",
    message: "what was restored is committed, and comparing it was cut off",
  });
  expect(await query("rows", "select count(*) from t")).toBe("200");
  const leaving = 'leaving: all that was restored, in the database "rows": it was committed before';

  await server.sql("rows", "drop table t");
  lab.log.length = 0;
  const failed = lab.restore(
    command,
    once(() => runNow("rows", "drop table t")),
  );
  await expect(failed).rejects.toMatchObject({
    reason: "ARCHIVE_DIFFERS",
    message: expect.stringMatching(
      /^all of it was loaded into "rows" and stays there; afterwards: 1 objects/,
    ) as unknown,
  });
  expect(lab.log).toContain(leaving);
});

test("rows that a SQL script holds and the restored database lacks are missed", async () => {
  await server.sql("postgres", "create database script");
  await server.sql("script", "create table t as select generate_series(1, 100) as id");
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["script"], format: DumpFormat.PLAIN }));
  const command = lab.restoreCommand(dumped, "script", "restored");
  const losing = lab.restore(
    command,
    once(() => runNow(command.stagedDatabase, "delete from t where id = 7")),
  );
  await expect(losing).rejects.toMatchObject({ reason: "ARCHIVE_DIFFERS" });
  expect(await query("postgres", "select count(*) from pg_database where datname = 'restored'")).toBe("0");
  expect(await lab.restore(lab.restoreCommand(dumped, "script", "restored"))).toMatchObject({ rows: 100n });
});

test("the rows of tables without columns, and of those with any name, are compared as well", async () => {
  await server.sql("postgres", "create database odd");
  await server.sql(
    "odd",
    `create table bare (); insert into bare default values; insert into bare default values;
     create table "we""ird\nname" ("a,b (c)" int, "x\ny" text, g int generated always as (1) stored);
     insert into "we""ird\nname" values (1, 'x')`,
  );
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["odd"] }));
  const checking = () => ({ ...lab.restoreCommand(dumped, "odd", "checked"), ...selecting({ checksums: true }) });
  const command = checking();
  const changed = lab.restore(
    command,
    once(() => runNow(command.stagedDatabase, "insert into bare default values")),
  );
  await expect(changed).rejects.toMatchObject({
    reason: "ARCHIVE_DIFFERS",
    message: expect.stringContaining("public.bare") as unknown,
  });
  expect(await lab.restore(checking())).toMatchObject({ tables: 2, rows: 3n });
});

test("a restore into a present database says what of the database itself it has not restored", async () => {
  await server.sql("postgres", "create database props");
  const settings = `alter database props set work_mem = '77MB'; revoke connect on database props from public;
    comment on database props is 'mine'`;
  await server.sql("postgres", settings);
  await server.sql("props", "create table t ()");
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["props"] }));
  await server.sql("props", "drop table t");
  const into = () => lab.restoreCommand(dumped, "props", "props", RestoreMode.INTO);
  expect((await lab.restore(into())).warnings).toEqual([]);
  await server.sql("postgres", "drop database props; create database props");
  const other = (what: string) => [`the database "props" itself is as it was: the backup has other ${what}`];
  expect((await lab.restore(into())).warnings).toEqual(other("privileges, settings, comment"));
  await server.sql("props", "drop table t");
  const noPrivileges = { ...into(), ...selecting({ noPrivileges: true }) };
  expect((await lab.restore(noPrivileges)).warnings).toEqual(other("settings, comment"));
});
