// One thing: dumps of real servers, from the command to what lies in the repository, and what refuses or ends one.
import { mkdir, readdir, rename, rmdir, truncate } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Client } from "pg";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { chooseStagedOid } from "../../agent/src/logical/staged-database.ts";
import { settleDump } from "../../agent/src/logical/settle.ts";
import { openStorage } from "../../agent/src/storage/open.ts";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const dumpOf = ({ result }: Dumped) => dumpContent(result.manifest);
const namesIn = (dumped: Dumped) => dumpOf(dumped)?.databases.map(({ name }) => name);
const missingIn = (dumped: Dumped) => dumpOf(dumped)?.missing.map(({ name, reason }) => [name, reason]);

describe.each([15, 18] as const)("on PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let lab: DumpLab;
  beforeAll(async () => {
    server = await openPostgresServer({ major });
    await server.sql("postgres", "create database first; create database second; create database third");
    for (const name of ["first", "second", "third"])
      await server.sql(name, "create table t as select generate_series(1, 10) as id");
  });
  beforeAll(async () => {
    lab = await openDumpLab(server);
  });
  afterAll(async () => {
    await lab?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const clients: Client[] = [];
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.end();
  });

  /** Holds a lock that pg_dump has to wait for, and tells when it does. */
  async function lockTable(
    database: string,
  ): Promise<{ waited: () => Promise<void>; release: () => Promise<unknown> }> {
    const client = new Client({
      host: "127.0.0.1",
      port: server.port,
      user: "postgres",
      password: server.password,
      database,
    });
    await client.connect();
    clients.push(client);
    await client.query("begin; lock table t in access exclusive mode");
    const waiting =
      "select count(*) from pg_locks l join pg_database d on d.oid = l.database where not granted and datname = ";
    return {
      waited: () => expect.poll(() => server.sql("postgres", `${waiting}'${database}'`), { timeout: 10_000 }).toBe("1"),
      release: () => client.query("rollback"),
    };
  }

  /** Files below the folder of a backup. */
  const stored = async (folder: string | undefined) => {
    const below = join(lab.repository, "cls_test", "backups", folder ?? "");
    const entries = await readdir(below, { recursive: true, withFileTypes: true }).catch(() => []);
    return entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  };

  test("a dump holds every database but template0, with positions, digests and the tools that made it", async () => {
    const dumped = await lab.dump(lab.dumpCommand());
    expect(dumped.failure).toBeUndefined();
    expect(namesIn(dumped)).toEqual(["template1", "first", "postgres", "second", "third"]);
    expect(dumped.result.manifest).toMatchObject({
      complete: true,
      clusterName: "shop",
      recipe: { key: "RECOVER.txt" },
    });
    expect(dumped.result.facts).toMatchObject({ superuser: true, isLocal: true, inRecovery: false });
    expect(dumpOf(dumped)).toMatchObject({ hasRolePasswords: true, rolesChanged: false, missing: [] });
    for (const { snapshotLsn, sizeBytes, stream } of dumpOf(dumped)?.databases ?? []) {
      expect(snapshotLsn).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
      expect(sizeBytes).toBeGreaterThan(1_000_000n);
      expect(stream?.objects[0]?.sha256).toMatch(/^[0-9a-f]{64}$/);
    }
    expect(JSON.stringify([dumped.result.recipe, lab.log])).not.toContain(server.password);
    // All is what the server says the databases have; their dumps are counted while they are written.
    const last = lab.progress.at(-1);
    expect(last).toMatchObject({ phase: "dumping", doneItems: 5, totalItems: 5 });
    expect(last?.doneBytes).toBe(last?.totalBytes);
    expect(lab.progress.map(({ item }) => item)).toEqual(expect.arrayContaining(["globals", "first"]));
    const partly = lab.progress.find(({ doneBytes }) => doneBytes > 0n);
    expect(partly?.doneBytes).toBeLessThan(100_000n);
  });

  test("a database that forbids connections makes the backup incomplete, unless it is left out by name", async () => {
    await server.sql("postgres", "create database closed allow_connections false");
    const dumped = await lab.dump(lab.dumpCommand({ databases: ["first", "closed"] }));
    expect(dumped.failure).toMatchObject({
      reason: "BACKUP_INCOMPLETE",
      message: expect.stringContaining('"closed"') as unknown,
    });
    expect(dumped.result.manifest?.complete).toBe(false);
    expect([namesIn(dumped), missingIn(dumped)]).toEqual([
      ["first"],
      [["closed", MissingReason.CONNECTIONS_FORBIDDEN]],
    ]);
    const without = await lab.dump(lab.dumpCommand({ excludeDatabases: ["closed", "third"] }));
    expect(without.failure).toBeUndefined();
    expect(missingIn(without)).toEqual([
      ["closed", MissingReason.EXCLUDED],
      ["third", MissingReason.EXCLUDED],
    ]);
    await server.sql("postgres", "drop database closed");
  });

  test("a database dropped while the backup runs is named and the backup complete; changed roles are noticed", async () => {
    await server.sql("postgres", "create database gone");
    const lock = await lockTable("first");
    const running = lab.dump(lab.dumpCommand({ jobs: 1, excludeDatabases: ["postgres", "second"] }));
    await lock.waited();
    await server.sql("postgres", "drop database gone; create role newcomer");
    await lock.release();
    const dumped = await running;
    expect(dumped.failure).toBeUndefined();
    expect(dumped.result.manifest?.complete).toBe(true);
    expect(missingIn(dumped)).toContainEqual(["gone", MissingReason.DROPPED]);
    expect(namesIn(dumped)).toEqual(["template1", "first", "third"]);
    expect(dumpOf(dumped)?.rolesChanged).toBe(true);
  });

  test("what a restore works in meanwhile is left out of a dump, which is complete without it", async () => {
    const staged = "coppice_restore_working";
    const oid = chooseStagedOid(staged);
    await server.sql("postgres", `create database ${staged} with oid = ${oid} connection limit = 0`);
    const login = "create role dumper login password 'of dumper'; grant pg_read_all_data to dumper";
    await server.sql("postgres", login);
    const command = lab.dumpCommand({ excludeDatabases: ["postgres", "template1", "second", "third"] });
    if (command.connection?.endpoint) command.connection.endpoint.user = "dumper";
    const dumped = await lab.dump(command, { password: "of dumper" });
    expect(dumped.failure).toBeUndefined();
    expect(dumped.result.manifest?.complete).toBe(true);
    expect(namesIn(dumped)).toEqual(["first"]);
    expect(missingIn(dumped)).toContainEqual([staged, MissingReason.EXCLUDED]);
    await server.sql("postgres", `drop database ${staged}; drop role dumper`);
  });

  test("a database whose dump fails does not stop the others, and nothing of it is stored", async () => {
    const lock = await lockTable("second");
    const command = lab.dumpCommand({ databases: ["first", "second", "third"], lockWaitTimeout: { seconds: 1n } });
    const dumped = await lab.dump(command);
    await lock.release();
    expect(dumped.failure).toMatchObject({
      reason: "BACKUP_INCOMPLETE",
      message: expect.stringContaining('"second"') as unknown,
    });
    expect(dumped.failure?.message).toContain("pg_dump waited longer than 1s for the lock of a table");
    expect([namesIn(dumped), missingIn(dumped)]).toEqual([["first", "third"], [["second", MissingReason.FAILED]]]);
    // The tools repeat statements in what they say; none of it gets into logs or messages.
    expect(JSON.stringify([dumped.failure?.message, lab.log])).not.toMatch(/LOCK TABLE|query was/i);
    const keys = await stored(command.backup?.folder);
    expect(keys.filter((key) => key.includes("/db/")).length).toBe(2);
    // It is listed and can be restored.
    expect(await lab.restore(lab.restoreCommand(dumped, "third", "third-again"))).toMatchObject({ rows: 10n });
    await server.sql("postgres", 'drop database "third-again"');
  });

  test("a cancelled dump leaves neither objects nor sessions behind", async () => {
    const lock = await lockTable("first");
    const controller = new AbortController();
    const command = lab.dumpCommand();
    const running = lab.dump(command, { signal: controller.signal });
    const cause = running.catch((error: unknown) => error);
    await lock.waited();
    const reason = new Error("told to stop");
    controller.abort(reason);
    expect(await cause).toBe(reason);
    expect(await stored(command.backup?.folder)).toEqual([]);
    const sessions = "select count(*) from pg_stat_activity where application_name like 'coppice%'";
    await expect.poll(() => server.sql("postgres", sessions), { timeout: 5_000 }).toBe("0");
    await lock.release();
    // The next try works.
    expect((await lab.dump(lab.dumpCommand())).failure).toBeUndefined();
  });

  test("what is wrong is said before anything of the backup is stored", async () => {
    const unknown = lab.dumpCommand({ databases: ["frist"] });
    await expect(lab.dump(unknown)).rejects.toMatchObject({ reason: "DATABASE_NOT_FOUND" });
    const other = { ...lab.dumpCommand(), expectedSystemIdentifier: "42" };
    await expect(lab.dump(other)).rejects.toMatchObject({ reason: "CLUSTER_CHANGED" });
    for (const command of [unknown, other]) expect(await stored(command.backup?.folder)).toEqual([]);
  });

  test.for([
    ["the cluster", { clusterFileExpected: true }],
    ["another one alone", { knownClusters: ["cls_gone", "cls_test"] }],
  ] as const)(
    "an empty folder in the place of a repository that holds backups of %s is refused, and stays empty",
    async ([, known]) => {
      await lab.dump(lab.dumpCommand({ databases: ["first"] }));
      const command = Object.assign(lab.dumpCommand({ databases: ["first"] }), known);
      await rename(lab.repository, `${lab.repository}-away`);
      await mkdir(lab.repository);
      await expect(lab.dump(command)).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
      expect(await readdir(lab.repository)).toEqual([]);
      await rmdir(lab.repository);
      await rename(`${lab.repository}-away`, lab.repository);
      expect((await lab.dump(command)).failure).toBeUndefined();
    },
  );

  test("a role without the right to read passwords dumps the globals without them", async () => {
    await server.sql(
      "postgres",
      "create role dumper login password 'secret-of-dumper'; create database own owner dumper",
    );
    const command = lab.dumpCommand({ databases: ["own"] });
    if (command.connection?.endpoint) command.connection.endpoint.user = "dumper";
    const dumped = await lab.dump(command, { password: "secret-of-dumper" });
    expect(dumped.failure).toBeUndefined();
    expect(dumpOf(dumped)?.hasRolePasswords).toBe(false);
    expect(dumped.result.recipe).toContain("Passwords are NOT in it");
    await server.sql("postgres", "drop database own; drop role dumper");
  });

  test("settling finds a committed dump again, and removes what an uncommitted one has left", async () => {
    const signal = AbortSignal.timeout(30_000);
    const command = lab.dumpCommand({ databases: ["first"] });
    const dumped = await lab.dump(command);
    const location = command.backup?.repository?.location;
    if (!location) throw new Error("no repository");
    await using storage = await openStorage(location, { operationId: "op_settle", signal });
    const settle = (lost: typeof command) =>
      settleDump(storage, { command: lost, operationId: "op_lost", signal, onProgress: () => {} });
    const found = await settle(command);
    expect(found).toMatchObject({ removed: [], outcome: { manifestSha256: dumped.result.manifestSha256 } });
    expect(found.outcome?.recipe).toBe(dumped.result.recipe);

    // As after a crash of the host that lost bytes: nobody was ever told of it, so that it is no backup.
    await truncate(join(lab.repository, "cls_test/backups", command.backup?.folder ?? "", "globals.sql.zst.0000"), 1);
    const damaged = await settle(command);
    expect(damaged.outcome).toBeUndefined();
    expect(damaged.removed).toEqual([expect.stringContaining("objects of a damaged backup") as unknown]);
    expect(await stored(command.backup?.folder)).toEqual([]);

    const lost = lab.dumpCommand();
    const key = `cls_test/backups/${lost.backup?.folder}/db/1.dump.zst.0000`;
    await storage.put(key, Readable.from([Buffer.from("left")]), { signal, ifAbsent: true });
    const cleared = await settle(lost);
    expect(cleared.outcome).toBeUndefined();
    expect(cleared.removed.length).toBe(1);
    expect(await stored(lost.backup?.folder)).toEqual([]);
  });
});
