import { chown, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type RestoreDatabaseCommand, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

// What PostgreSQL 15 has and a server of 18 has not: an extension that is gone since 17, and locales that nobody checked.
let source: PostgresServer;
let target: PostgresServer;
let lab: DumpLab;

beforeAll(async () => {
  [source, target] = await Promise.all([
    openPostgresServer({ major: 15 }),
    openPostgresServer({ major: 18, settings: { icu_validation_level: "error" } }),
  ]);
  lab = await openDumpLab(source);
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
  await target?.[Symbol.asyncDispose]();
});
const names = async () =>
  (await target.sql("postgres", "select datname from pg_database where oid > 16383 order by 1"))
    .split("\n")
    .filter(Boolean);
beforeEach(async () => {
  for (const name of await names()) await target.sql("postgres", `drop database "${name}" with (force)`);
  await target.sql("postgres", "create database kept");
});

async function restoring(database: string, as: string, mode = RestoreMode.NEW): Promise<RestoreDatabaseCommand> {
  const dumped = await lab.dump(lab.dumpCommand({ databases: [database] }));
  if (dumped.failure) throw dumped.failure;
  return { ...lab.restoreCommand(dumped, database, as, mode), connection: connectionTo(target) };
}
const restore = (command: RestoreDatabaseCommand) => lab.restore(command, { password: target.password });

test("an extension that the server does not have is named before anything is made, in every mode", async () => {
  await source.sql("postgres", "create database watched");
  await source.sql("watched", "create extension old_snapshot; create extension pg_trgm; create table t (i int)");
  for (const [as, mode] of [
    ["copy", RestoreMode.NEW],
    ["kept", RestoreMode.REPLACE],
    ["kept", RestoreMode.INTO],
  ] as const) {
    await expect(restore(await restoring("watched", as, mode))).rejects.toMatchObject({
      reason: "EXTENSION_MISSING",
      message: 'the server does not have the extensions "old_snapshot"',
    });
    expect(await names()).toEqual(["kept"]);
  }
});

test("a locale that the server does not have is named before anything is made, and is no matter for a database that is there", async () => {
  await source.sql(
    "postgres",
    "create database spoken template template0 encoding 'UTF8' locale_provider icu icu_locale 'tlh-nowhere-xx'",
  );
  await source.sql("spoken", "create table t as select 1 as i");
  await expect(restore(await restoring("spoken", "copy"))).rejects.toMatchObject({
    reason: "LOCALE_MISSING",
    message: expect.stringContaining('icu "tlh-nowhere-xx"') as unknown,
  });
  expect(await names()).toEqual(["kept"]);
  expect(await restore(await restoring("spoken", "kept", RestoreMode.INTO))).toMatchObject({ tables: 1, rows: 1n });
});

test("a tablespace that the cluster does not have is named, and what lay in it goes into the default one", async () => {
  const folder = join(source.socketDir, "space");
  await mkdir(folder);
  await chown(folder, source.owner.uid, source.owner.gid);
  await source.sql("postgres", `create tablespace space location '${folder}'`);
  await source.sql("postgres", "create database placed tablespace space");
  await source.sql("placed", "create table a as select 1 as i; create index on a (i) tablespace pg_default");
  for (const jobs of [1, 2]) {
    const result = await restore({ ...(await restoring("placed", `placed_${jobs}`)), jobs });
    expect(result).toMatchObject({ tables: 1, rows: 1n });
    expect(result.warnings).toEqual([expect.stringContaining('the cluster has no tablespace "space"')]);
  }
});
