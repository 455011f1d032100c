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
  const env = { ...process.env, PGPASSWORD: server.password, PGCLIENTENCODING: "UTF8" };
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

test("rows of partitions that are loaded by the name of the whole table are compared with all of it", async () => {
  await server.sql("postgres", "create database parts");
  // Where a row of an enum's hash goes differs between servers, so that pg_dump names the uppermost table.
  await server.sql(
    "parts",
    `create type mood as enum ('sad', 'fine', 'glad');
     create table feeling (at int, mood mood, note text) partition by hash (mood);
     create table feeling_0 partition of feeling for values with (modulus 2, remainder 0);
     create table feeling_1 (note text, mood mood, at int);
     alter table feeling attach partition feeling_1 for values with (modulus 2, remainder 1);
     insert into feeling select i, (enum_range(null::mood))[1 + i % 3], 'n' || i from generate_series(1, 300) i;
     create table tree (at int, mood mood) partition by range (at);
     create table tree_old partition of tree for values from (0) to (100);
     create table tree_new partition of tree for values from (100) to (1000) partition by hash (mood);
     create table tree_new_0 partition of tree_new for values with (modulus 1, remainder 0);
     insert into tree select i, 'sad' from generate_series(1, 200) i;
     create table parent (i int); create table child (j int) inherits (parent);
     insert into parent values (1); insert into child values (1, 2)`,
  );
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["parts"] }));
  const checking = (target: string) => ({
    ...lab.restoreCommand(dumped, "parts", target),
    ...selecting({ checksums: true }),
  });
  expect(await lab.restore(checking("parts_checked"))).toMatchObject({ rows: 502n, warnings: [] });
  expect(lab.log).toContainEqual(expect.stringContaining("the rows of 5 tables are the archive's"));
  const changes: [change: string, named: string][] = [
    ["update feeling_1 set note = 'other' where ctid = (select min(ctid) from feeling_1)", "public.feeling"],
    ["delete from tree_old where at = 7", "public.tree_old"],
    ["insert into parent values (3)", "public.parent"],
  ];
  for (const [change, named] of changes) {
    const command = checking("parts_changed");
    const changed = lab.restore(
      command,
      once(() => runNow(command.stagedDatabase, change)),
    );
    await expect(changed, change).rejects.toMatchObject({
      reason: "ARCHIVE_DIFFERS",
      message: expect.stringContaining(named) as unknown,
    });
  }
});

test("rows that were dumped as INSERT are said not to have been compared", async () => {
  await server.sql("postgres", "create database inserted");
  await server.sql("inserted", "create table t as select generate_series(1, 100) as id; create table u ()");
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["inserted"], rowsPerInsert: 10 }));
  const command = { ...lab.restoreCommand(dumped, "inserted", "into_other"), ...selecting({ checksums: true }) };
  const { rows, warnings } = await lab.restore(command);
  expect([rows, warnings]).toEqual([
    100n,
    [expect.stringMatching(/^the rows of 2 tables were only counted, .*INSERT: .*"public\.t"/) as unknown],
  ]);
});

test("a database in another encoding than UTF-8 is selected from, compared and clashes by its names", async () => {
  await server.sql("postgres", "create database latin encoding 'LATIN1' locale 'C' template template0");
  await server.sql(
    "latin",
    `set client_encoding = 'UTF8'; create table "größe" ("länge" text); insert into "größe" values ('ä'), ('ß');
     create table other as select 1 as i`,
  );
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["latin"] }));
  const part = selecting({ tables: [{ name: "größe" }], checksums: true });
  const command = { ...lab.restoreCommand(dumped, "latin", "part"), ...part };
  expect(await lab.restore(command)).toMatchObject({ tables: 1, rows: 2n, warnings: [] });
  const read = `set client_encoding = 'UTF8'; select string_agg("länge", ',' order by 1) from "größe"`;
  expect(await query("part", read)).toBe("ä,ß");
  const changing = { ...lab.restoreCommand(dumped, "latin", "changed"), ...part };
  const changed = lab.restore(
    changing,
    once(() => runNow(changing.stagedDatabase, `delete from "größe" where "länge" = 'ä'`)),
  );
  await expect(changed).rejects.toMatchObject({
    reason: "ARCHIVE_DIFFERS",
    message: expect.stringContaining('public."größe"') as unknown,
  });
  // A database of UTF-8 has the same names in other bytes.
  await server.sql("postgres", "create database unicode");
  const into = () => ({ ...lab.restoreCommand(dumped, "latin", "unicode", RestoreMode.INTO), ...part });
  expect(await lab.restore(into())).toMatchObject({ tables: 1, rows: 2n });
  await expect(lab.restore(into())).rejects.toMatchObject({
    reason: "OBJECT_CLASHES",
    message: expect.stringContaining('"public.größe"') as unknown,
  });
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
