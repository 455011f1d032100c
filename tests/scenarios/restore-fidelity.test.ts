// One thing: what a restore gives back, over one installation with a server of each major.
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Installation, openInstallation } from "../support/installation.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { listFiles } from "../support/scenarios/files.ts";
import { holdTable } from "../support/scenarios/held-table.ts";
import { addCluster, addRepository } from "../support/scenarios/protect.ts";

const majors = [15, 18] as const;
const richCluster = new URL("../support/dumps/rich-cluster.sql", import.meta.url);
const richDatabase = new URL("../support/dumps/rich-database.sql", import.meta.url);

/** Names that break what does not quote; each is a database with an owner of that name. */
const strangeNames = [
  `two "words" o'clock`,
  String.raw`--if-exists 100%s %d \ $HOME $(id)`,
  "line\nbreak 🌲 dbname=other host=nowhere",
  "x".repeat(61) + "é",
];
const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

interface Missing {
  readonly name: string;
  readonly reason: string;
}
interface BackupAnswer {
  readonly id: string;
  readonly complete: boolean;
  readonly databases: { readonly name: string }[];
  readonly missing?: readonly Missing[];
}

let installation: Installation;
let repository: string;
const servers = new Map<number, PostgresServer>();

beforeAll(async () => {
  const openServer = async (major: number) => {
    // The rich database has a publication.
    const server = await openPostgresServer({ major, settings: { wal_level: "logical" } });
    servers.set(major, server);
  };
  [installation] = await Promise.all([openInstallation(), ...majors.map(openServer)]);
  await installation.addAgent("db7");
  repository = await addRepository(installation, "main", "db7");
  for (const [major, server] of servers) await addCluster(installation, `c${major}`, { host: "db7", server });
});
afterAll(async () => {
  await installation?.[Symbol.asyncDispose]();
  for (const server of servers.values()) await server[Symbol.asyncDispose]();
});

async function latestBackup(cluster: string): Promise<BackupAnswer> {
  const list = await installation.call<{ backups: { id: string }[] }>("BackupService/ListBackups", { cluster });
  return await installation.call<BackupAnswer>("BackupService/GetBackup", { backup: list.backups[0]?.id });
}

/** The id of the last good dump of a cluster. */
async function lastGood(cluster: string): Promise<string | undefined> {
  const answer = await installation.call<{ lastGoodDump?: { backup: string } }>("ClusterService/GetCluster", {
    cluster,
  });
  return answer.lastGoodDump?.backup;
}

describe.each(majors)("on PostgreSQL %i", (major) => {
  let server: PostgresServer;
  const cluster = `c${major}`;
  beforeAll(() => {
    const found = servers.get(major);
    if (!found) throw new Error(`there is no server of ${major}`);
    server = found;
  });

  test("an empty cluster is backed up, and what is in every cluster comes back from it", async () => {
    expect(await installation.must(["backup", "create", cluster])).toMatch(/^✓ bkp_\w{26} {2}2 databases, /);
    const { databases, complete } = await latestBackup(cluster);
    expect(complete).toBe(true);
    expect(databases.map(({ name }) => name)).toEqual(["template1", "postgres"]);
    await installation.must(["restore", "create", cluster, "--database", "postgres", "--as", "again"]);
    expect(await server.sql("again", "select count(*) from pg_tables where schemaname = 'public'")).toBe("0");
    await server.sql("postgres", "drop database again");
  });

  test("a database comes back under a new name and in place, equal in rows, objects, properties and privileges", async () => {
    const { coppice, must } = installation;
    await server.sql("postgres", await readFile(richCluster, "utf8"));
    await server.sql("shop", await readFile(richDatabase, "utf8"));
    const before = await portrayDatabase(server, "shop");
    await must(["backup", "create", cluster]);
    const source = await latestBackup(cluster);
    // What happens after the backup must not matter.
    await server.sql(
      "shop",
      "truncate event; alter database shop reset all; revoke create on database shop from public",
    );
    const present =
      "select oid, datacl, datconnlimit from pg_database where datname = 'shop'; select count(*) from event";
    const ruined = await server.sql("shop", present);

    await must(["restore", "create", cluster, "--database", "shop", "--as", "shop copy"]);
    expect(await server.sql("shop", present)).toBe(ruined);
    // A portrait names its database, so the copy takes the name for a moment.
    await server.sql("postgres", 'alter database shop rename to aside; alter database "shop copy" rename to shop');
    expect(await portrayDatabase(server, "shop")).toBe(before);
    await server.sql("postgres", "drop database shop; alter database aside rename to shop");

    const refused = await coppice(["restore", "create", cluster, "--database", "shop", "--replace"]);
    expect(refused.code).toBe(2);
    expect(await server.sql("shop", present)).toBe(ruined);
    const restore = ["restore", "create", cluster, "--database", "shop", "--replace", "--backup", source.id, "--yes"];
    const said = await must([...restore, "--jobs", "3"]);
    const [, kept = ""] = /kept as (shop_before_\d{14}): drop it/.exec(said) ?? [];
    expect(await portrayDatabase(server, "shop")).toBe(before);
    expect(await server.sql(kept, "select count(*) from event")).toBe("0");
    await server.sql("postgres", `drop database ${kept}`);
  });

  test("databases of every name go through, from the backup to a copy and to a replacement", async () => {
    for (const name of strangeNames) {
      await server.sql("postgres", `create role ${quote(name)}; create database ${quote(name)} owner ${quote(name)}`);
      await server.sql(name, `create table ${quote(name)} (a text); insert into ${quote(name)} values ('here')`);
    }
    const only = strangeNames.map((name) => `--database=${name}`);
    await installation.must(["backup", "create", cluster, ...only]);
    const backup = await latestBackup(cluster);
    expect(backup.databases.map(({ name }) => name).toSorted()).toEqual(strangeNames.toSorted());
    // A selection is no dump of the cluster.
    expect(await lastGood(cluster)).not.toBe(backup.id);

    // The agent's own tests restore each of them on each major; here two of them go the whole way.
    const ways = strangeNames.slice(major === 15 ? 0 : 2).slice(0, 2);
    for (const [index, name] of ways.entries()) {
      const before = await portrayDatabase(server, name);
      const from = ["restore", "create", cluster, `--backup=${backup.id}`, `--database=${name}`, "-o", "json"];
      const isCopied = index === 0;
      const copy = `${index}${name.slice(0, 40)}`;
      if (!isCopied) await server.sql(name, `drop table ${quote(name)}`);
      const said = await installation.must([...from, ...(isCopied ? [`--as=${copy}`] : ["--replace", "--yes"])]);
      expect(await server.sql(isCopied ? copy : name, `select a from ${quote(name)}`)).toBe("here");
      expect(await portrayDatabase(server, name)).toBe(before);
      const { restoredDatabase } = JSON.parse(said) as { restoredDatabase: { keptAs?: string } };
      await server.sql("postgres", `drop database ${quote(isCopied ? copy : (restoredDatabase.keptAs ?? ""))}`);
    }
    for (const name of strangeNames) await server.sql("postgres", `drop database ${quote(name)}`);
  });

  test("a database that forbids connections leaves the backup incomplete: listed, restorable, never the last good one", async () => {
    const { coppice, must } = installation;
    const good = await lastGood(cluster);
    expect(good).toBeDefined();
    await server.sql("postgres", "create database closed allow_connections false");

    const tried = await coppice(["backup", "create", cluster]);
    expect(tried.code).toBe(8);
    expect(tried.stderr).toMatch(/^✗ op_\w{26} failed .*lacks "closed": /m);
    expect(tried.stderr).toMatch(/^ {2}next: /m);
    const incomplete = await latestBackup(cluster);
    expect(incomplete.complete).toBeFalsy();
    expect(incomplete.missing).toMatchObject([{ name: "closed" }]);
    expect(await must(["backup", "list", "--cluster", cluster])).toMatch(
      new RegExp(`^${incomplete.id} .* incomplete +main`, "m"),
    );
    expect(await lastGood(cluster)).toBe(good);
    // What is in it can be had all the same.
    const from = ["--backup", incomplete.id, "--database", "postgres"];
    await must(["restore", "create", cluster, ...from, "--as", "from-incomplete"]);

    await server.sql("postgres", 'drop database "from-incomplete"');
  });

  test("with that one left out by name, and another dropped while the backup runs, the backup is complete and names both", async () => {
    const { must } = installation;
    await server.sql("postgres", "create database brief");
    await server.sql("brief", "create table t (a int)");
    // Its dump waits for the lock; the database goes with everybody in it.
    await using held = await holdTable(server, "brief", "t");
    const backup = must(["backup", "create", cluster, "--exclude-database", "closed"]);
    await held.waitedFor();
    await server.sql("postgres", "drop database brief with (force)");
    await Promise.all([held.lost, backup]);
    const made = await latestBackup(cluster);
    expect(made.complete).toBe(true);
    expect(made.missing?.map(({ name, reason }) => [name, reason])).toEqual([
      ["closed", "MISSING_REASON_EXCLUDED"],
      ["brief", "MISSING_REASON_DROPPED"],
    ]);
    expect(made.databases.map(({ name }) => name)).not.toContain("brief");
    expect(await lastGood(cluster)).toBe(made.id);
    expect(await must(["backup", "get", made.id])).toMatch(/^brief .* missing: dropped$/m);
    await server.sql("postgres", "drop database closed");
  });
});

test("nothing half-written is left in the repository by all of this", async () => {
  const files = await listFiles(repository);
  const folders = new Set(files.filter((file) => file.includes("/backups/")).map((file) => file.split("/")[2]));
  const committed = files.filter((file) => file.endsWith("/manifest.json")).map((file) => file.split("/")[2]);
  expect(files.filter((file) => file.includes("unfinished"))).toEqual([]);
  expect(new Set(committed)).toEqual(folders);
});
