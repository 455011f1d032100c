// What no dump of a recovered server holds is refused or named, never called restored; what stands in the way of the dump
// and of the load is put aside.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { staysQuiet } from "../../agent/src/physical/restore/settings/recovery-settings.ts";
import { planPart } from "../../agent/src/scratch/plan-part.ts";
import { scratchPlaces } from "../../agent/src/scratch/scratch-folder.ts";
import { openPartLab, type PartLab, type PartWish } from "../support/physical/part-lab.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openRestoreLab, type RestoreLab } from "../support/physical/restore-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const named = (...names: string[]) => ({
  tables: names.map((each) => {
    const [schema = "", name = ""] = each.split(".");
    return { schema, name };
  }),
});

const stack = new AsyncDisposableStack();
let server: PostgresServer;
let backups: PhysicalLab;
let lab: RestoreLab;
let parts: PartLab;
let full: BackupAddress;

beforeAll(async () => {
  server = stack.use(await openPostgresServer({ major: 18, settings: { max_prepared_transactions: "5" } }));
  backups = stack.use(await openPhysicalLab(server));
  lab = stack.use(await openRestoreLab(server, backups.repository));
  parts = await openPartLab(server, lab);
  await server.sql("postgres", "create database orders; create database closed allow_connections false");
  await server.sql(
    "orders",
    `create table items (id int primary key, kind regclass);
     insert into items select i, 'items' from generate_series(1, 10) i;
     create unlogged table scratchpad (id serial); insert into scratchpad select generate_series(1, 60);
     create table rates (day int); insert into rates values (1), (2); alter extension plpgsql add table rates;
     select lo_from_bytea(0, 'a large object');
     create schema app; create schema parts;
     create table app.events (id serial, day int) partition by range (day);
     create table parts.events_1 partition of app.events for values from (0) to (10);
     insert into app.events (day) values (1), (2);
     create table parts.other (id serial); create view parts.seen as select * from parts.other;
     create function app.twice(n int) returns int language sql return 2 * n;
     create schema geo; create table geo.zones (name text); insert into geo.zones values ('UTC');
     alter extension plpgsql add table geo.zones;
     update pg_extension set extconfig = array['geo.zones'::regclass::oid], extcondition = array['']
       where extname = 'plpgsql'`,
  );
  // It locks even those who only read, and lacks a row.
  const change = "alter table items add column n int; delete from items where id = 1";
  await server.sql("orders", `begin; ${change}; prepare transaction 'it''s open'`);
  const command = backups.command();
  await backups.take(command);
  full = command.backup;
  await server.sql("orders", "rollback prepared 'it''s open'");
  await server.sql("orders", "update pg_extension set extconfig = null, extcondition = null where extname = 'plpgsql'");
});
afterEach(async () => {
  await server.sql("postgres", "drop database if exists past");
});
afterAll(() => stack.disposeAsync());

const recover = (wish: PartWish) => parts.recover(parts.command([full], wish));

test("rows that no WAL holds, or that pg_dump leaves to an extension, are refused where they are named", async () => {
  const refused = (name: string, message: string, wish: PartWish = {}) =>
    expect(recover({ selection: named(name), ...wish })).rejects.toMatchObject({
      reason: "SELECTION_REFUSED",
      message: expect.stringContaining(message) as string,
    });
  const file = join(lab.folder, "work", "part.dump");
  await refused("public.scratchpad", '"public.scratchpad" is unlogged: what it holds is in no WAL');
  await refused("public.rates", '"public.rates" belongs to the extension "plpgsql"', { file });
  await refused("geo.zones", '"geo.zones" belongs to the extension "plpgsql"');
  // A plan that asks the live server knows it before a cluster is recovered.
  const { items } = await parts.with(
    parts.command([full], { selection: named("public.scratchpad", "public.rates") }),
    (part) => planPart(part, true),
  );
  expect(items.filter(({ name }) => name === "wanted").map(({ message }) => message)).toEqual([
    expect.stringMatching(
      /^"public.scratchpad" of the live database "orders" is unlogged: .* after all of the recovery/,
    ),
    expect.stringContaining("belongs to the extension"),
  ]);
  expect(await readdir(join(lab.folder, "work"))).toEqual([]);
});

test("what an extension has pg_dump take is in a file, and a definition needs no rows", async () => {
  const file = join(lab.folder, "work", "zones.dump");
  expect(await recover({ selection: named("geo.zones"), file })).toMatchObject({ tables: 1 });
  const { stdout } = await runProgram(join(server.binDir, "pg_restore"), ["--list", file], { env: process.env });
  expect(stdout).toMatch(/ TABLE DATA geo zones /);
  await runProgram("rm", [file], { env: process.env });
  const selection = { ...named("public.scratchpad"), contents: DumpContents.SCHEMA_ONLY };
  expect(await recover({ selection })).toMatchObject({ loaded: { database: "past" } });
});

test("what was prepared and not committed at that point is rolled back, and holds up no dump", async () => {
  const { loaded, warnings } = await recover({ selection: named("public.items") });
  expect(loaded).toMatchObject({ rows: 10n });
  expect(await server.sql("past", "select count(*) from items")).toBe("10");
  expect(warnings).toEqual([
    "1 transaction was prepared at that point and not committed: nothing of it is there",
    expect.stringMatching(
      /^none of the large objects of the database, 1 in all, is there, because pg_dump takes them /,
    ),
  ]);
});

test("what is told of a part is told also when the answer of its work was lost", async () => {
  const command = parts.command([full], { selection: named("public.items") });
  let settled: Awaited<ReturnType<PartLab["settle"]>> | undefined;
  await parts.recover(command, { onDone: async () => void (settled = await parts.settle(command)) });
  expect(settled?.outcome).toMatchObject({ loaded: { database: "past", rows: 10n } });
  expect(settled?.outcome?.warnings).toEqual([
    expect.stringContaining("1 transaction was prepared"),
    expect.stringContaining("none of the large objects"),
    expect.stringContaining("the answer of the work was lost"),
  ]);
});

test("a dump that an agent of before the update wrote down is settled, too", async () => {
  const command = parts.command([full], { selection: named("public.items") });
  const beside = `${scratchPlaces(command).dump}.json`;
  let settled: Awaited<ReturnType<PartLab["settle"]>> | undefined;
  await parts.recover(command, {
    onDone: async () => {
      const { dumped } = JSON.parse(await readFile(beside, "utf8")) as { dumped: object };
      await writeFile(beside, JSON.stringify(dumped));
      settled = await parts.settle(command);
    },
  });
  expect(settled?.outcome).toMatchObject({
    loaded: { database: "past", rows: 10n },
    warnings: [expect.stringContaining("the answer of the work was lost") as string],
  });
});

test("a schema comes into a file with partitions that lie in another one, and with no other table of that", async () => {
  const file = join(lab.folder, "work", "app.dump");
  const { tables, warnings } = await recover({ selection: { schemas: ["app"] }, file });
  expect(tables).toBe(1);
  expect(warnings.at(-1)).toMatch(/^functions, types and sequences of "parts" are in the file too/);
  await server.sql("postgres", "create database past");
  const to = ["--host=127.0.0.1", `--port=${server.port}`, `--username=${server.superuser}`, "--dbname=past"];
  const env = { ...process.env, PGPASSWORD: server.password };
  const loaded = await runProgram(join(server.binDir, "pg_restore"), ["--exit-on-error", ...to, file], { env });
  expect(loaded).toMatchObject({ code: 0, stderr: "" });
  expect(await server.sql("past", "select sum(app.twice(day)) from app.events")).toBe("6");
  expect(
    await server.sql(
      "past",
      "select relname from pg_class where relnamespace = 'parts'::regnamespace and relkind in ('r', 'v')",
    ),
  ).toBe("events_1");
  await runProgram("rm", [file], { env: process.env });
});

test("what the live server's roles are told keeps no part from being loaded, and is no difference in rows", async () => {
  const role = `alter role "${server.superuser}"`;
  await server.sql(
    "postgres",
    `${role} set quote_all_identifiers = on; ${role} set default_transaction_read_only = on`,
  );
  try {
    const { loaded, differences } = await recover({ selection: named("public.items") });
    expect(loaded).toMatchObject({ rows: 10n });
    expect(differences).toMatchObject([{ table: "items", same: 10n, changed: 0n }]);
  } finally {
    await server.sql("postgres", `set default_transaction_read_only = off; ${role} reset all`);
  }
});

test("a whole database names what is empty in it", async () => {
  const file = join(lab.folder, "work", "orders.dump");
  const { warnings } = await recover({ file });
  expect(warnings).toEqual([
    expect.stringContaining("1 transaction was prepared"),
    expect.stringMatching(/^"public.scratchpad": empty, because they are unlogged/),
    expect.stringMatching(/^"public.rates": without their rows, because they belong to extensions/),
  ]);
  await runProgram("rm", [file], { env: process.env });
});

test("a database that allowed no connections is said to be there", async () => {
  const command = Object.assign(parts.command([full], {}), { database: "closed" });
  await expect(parts.recover(command)).rejects.toMatchObject({
    reason: "DATABASE_NOT_FOUND",
    message: 'the database "closed" allowed no connections at that point, and is not dumped',
  });
});

test("a whole cluster keeps what was prepared, and says so", async () => {
  const command = await lab.command("whole", [full]);
  const { warnings } = await lab.restore(command);
  expect(warnings).toEqual([staysQuiet, expect.stringContaining("1 prepared transaction is open")]);
  expect(await lab.sql(command, "select gid from pg_prepared_xacts")).toBe("it's open");
  await lab.stop(command);
});
