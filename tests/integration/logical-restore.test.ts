import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { connectionTo, type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { runProgram } from "../support/run-program.ts";

const richCluster = new URL("../support/dumps/rich-cluster.sql", import.meta.url);
const richDatabase = new URL("../support/dumps/rich-database.sql", import.meta.url);

/** Names that break what does not quote; each is a database, a schema, a table and a role. */
const oddNames = [
  `two "words" o'clock`,
  String.raw`--if-exists 100%s %d \ $HOME $(id)`,
  "line\nbreak 🌲 dbname=other host=nowhere",
  "x".repeat(63),
];
const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

interface Place {
  readonly server: PostgresServer;
  readonly lab: DumpLab;
}
const places = new Map<15 | 18, Place>();

beforeAll(async () => {
  const open = async (major: 15 | 18) => {
    const server = await openPostgresServer({ major, settings: { wal_level: "logical" } });
    places.set(major, { server, lab: await openDumpLab(server) });
    await server.sql("postgres", await readFile(richCluster, "utf8"));
    await server.sql("shop", await readFile(richDatabase, "utf8"));
  };
  await Promise.all([open(15), open(18)]);
});
afterAll(async () => {
  for (const { lab, server } of places.values()) {
    await lab[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  }
});

function placeOf(major: 15 | 18): Place {
  const place = places.get(major);
  if (!place) throw new Error(`there is no server of ${major}`);
  return place;
}

describe.each([15, 18] as const)("on PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let lab: DumpLab;
  beforeAll(() => {
    ({ server, lab } = placeOf(major));
  });

  test("a database restored in place of the old one equals it in everything pg_dump knows, by one job and by several", async () => {
    const before = await portrayDatabase(server, "shop");
    const dumped = await lab.dump(lab.dumpCommand({ databases: ["shop"] }));
    expect(dumped.failure).toBeUndefined();
    await server.sql("shop", `drop table "odd schema %s"."--tab;le""'"; truncate event; alter database shop reset all`);

    const command = lab.restoreCommand(dumped, "shop", "shop", RestoreMode.REPLACE);
    const result = await lab.restore(command);
    expect(result).toMatchObject({ database: "shop", keptAs: command.keptDatabase, warnings: [], tables: 7 });
    expect(await portrayDatabase(server, "shop")).toBe(before);
    // The old one is there as it was left, open, under its new name.
    expect(await server.sql(command.keptDatabase, "select count(*) from event")).toBe("0");

    const parallel = { ...lab.restoreCommand(dumped, "shop", "shop", RestoreMode.REPLACE), jobs: 3 };
    await lab.restore(parallel);
    expect(await portrayDatabase(server, "shop")).toBe(before);
    expect(await readdir(lab.workFolder)).toEqual([]);
    for (const { keptDatabase } of [command, parallel]) await server.sql("postgres", `drop database ${keptDatabase}`);
  });

  test("names of every kind come back as databases, schemas, tables and roles", async () => {
    for (const name of oddNames) {
      await server.sql("postgres", `create role ${quote(name)}; create database ${quote(name)} owner ${quote(name)}`);
      await server.sql(
        name,
        `create schema ${quote(name)} authorization ${quote(name)}; create table ${quote(name)}.${quote(name)} (a text);
         insert into ${quote(name)}.${quote(name)} values ('here')`,
      );
    }
    const dumped = await lab.dump(lab.dumpCommand({ excludeDatabases: ["shop"], jobs: 4 }));
    expect(dumped.failure).toBeUndefined();
    const dump = dumpContent(dumped.result.manifest);
    expect(dump?.databases.map(({ name }) => name)).toEqual(
      expect.arrayContaining([...oddNames, "postgres", "template1"]),
    );
    // Keys carry oids, never names.
    for (const { stream, oid } of dump?.databases ?? [])
      expect(stream?.objects.map(({ key }) => key)).toEqual([`db/${oid}.dump.zst.0000`]);

    for (const [index, name] of oddNames.entries()) {
      const target = index % 2 === 0 ? `copy of ${name}` : name;
      const mode = target === name ? RestoreMode.REPLACE : RestoreMode.NEW;
      const command = lab.restoreCommand(dumped, name, target, mode);
      const result = await lab.restore(command);
      expect(result).toMatchObject({ database: target, tables: 1, rows: 1n, warnings: [] });
      expect(await server.sql(target, `select a from ${quote(name)}.${quote(name)}`)).toBe("here");
      const spare = target === name ? command.keptDatabase : target;
      await server.sql("postgres", `drop database ${quote(spare)}`);
    }
  });

  test("an empty cluster can be dumped, and RECOVER.txt alone fills it with all that another one holds", async () => {
    await server.sql(
      "postgres",
      "alter database postgres set work_mem to '9MB'; revoke temporary on database postgres from public",
    );
    await server.sql("postgres", "create table own (a int); insert into own values (1)");
    const dumped = await lab.dump(lab.dumpCommand());
    const databases = dumpContent(dumped.result.manifest)?.databases.map(({ name }) => name) ?? [];
    expect(databases).toEqual(expect.arrayContaining(["shop", "postgres", "template1", ...oddNames]));

    await using empty = await openPostgresServer({ major, settings: { wal_level: "logical" } });
    await using emptyLab = await openDumpLab(empty);
    const nothing = await emptyLab.dump(emptyLab.dumpCommand());
    expect(nothing.result.manifest?.complete).toBe(true);
    expect(dumpContent(nothing.result.manifest)?.databases.map(({ name }) => name)).toEqual(["template1", "postgres"]);

    const folder = dumped.result.manifest?.backupId ?? "";
    const [place] = (await readdir(join(lab.repository, "cls_test", "backups"))).filter((name) =>
      name.endsWith(`_${folder}`),
    );
    // The globals bring the passwords of the old cluster with them.
    await empty.sql("postgres", `alter role postgres password '${server.password}'`);
    const recipe = await runProgram(
      "sh",
      ["-c", 'cd "$1" && exec bash --norc RECOVER.txt', "-", join(lab.repository, "cls_test", "backups", place ?? "")],
      {
        env: {
          PATH: `${server.binDir}:/usr/bin:/bin`,
          LANG: "C.UTF-8",
          PGHOST: "127.0.0.1",
          PGPORT: String(empty.port),
          PGUSER: empty.superuser,
          PGPASSWORD: server.password,
        },
      },
    );
    expect(recipe).toMatchObject({ code: 0, stderr: "" });
    for (const name of ["shop", "postgres", ...oddNames])
      expect(await portrayDatabase({ ...empty, password: server.password }, name)).toBe(
        await portrayDatabase(server, name),
      );
  });
});

test("a dump of PostgreSQL 15 goes into 18 and not the other way round", async () => {
  const [older, newer] = [placeOf(15), placeOf(18)];
  const command = older.lab.restoreCommand(
    await older.lab.dump(older.lab.dumpCommand({ databases: ["shop"] })),
    "shop",
    "upgraded",
  );
  const connection = connectionTo(newer.server);
  const result = await older.lab.restore({ ...command, connection }, { password: newer.server.password });
  expect(result).toMatchObject({ tables: 7, warnings: [] });
  const checksum = "select md5(string_agg(t::text, '' order by t::text)) from customer t";
  expect(await newer.server.sql("upgraded", checksum)).toBe(await older.server.sql("shop", checksum));

  const dumped = await newer.lab.dump(newer.lab.dumpCommand({ databases: ["template1"] }));
  const back = newer.lab.restoreCommand(dumped, "template1", "downgraded");
  const refused = newer.lab.restore(
    { ...back, connection: connectionTo(older.server) },
    { password: older.server.password },
  );
  await expect(refused).rejects.toMatchObject({ reason: "SERVER_UNSUPPORTED" });
});
