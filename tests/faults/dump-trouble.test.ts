// One thing: what happens to a dump, and to a restore, when a program or the server under it ends before its time.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import type { BackupDumpCommand } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { isFailure } from "@coppice/proto/kit/failure";
import { Client, DatabaseError } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Dumped } from "../../agent/src/logical/dump/dump.ts";
import { dumpContent } from "../support/dumps/dump-content.ts";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { portrayDatabase } from "../support/dumps/database-portrait.ts";
import { type DumpLab, openDumpLab } from "../support/dumps/dump-lab.ts";
import { waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { holdTable } from "../support/scenarios/held-table.ts";
import { listDescendants } from "../support/scenarios/processes.ts";

let server: PostgresServer;
let lab: DumpLab;
let key: AgeKey;
beforeAll(async () => {
  // Small enough to be filled.
  const settings = { max_connections: "16", superuser_reserved_connections: "0", wal_level: "logical" };
  [server, key] = await Promise.all([openPostgresServer({ major: 18, settings }), makeAgeKey()]);
  lab = await openDumpLab(server);
  await server.sql("postgres", "create database orders; create database stock; create database bulk");
  // More than the pipes between the programs hold.
  for (const [name, rows] of [
    ["orders", 30_000],
    ["stock", 100],
    ["bulk", 150_000],
  ] as const)
    await server.sql(name, `create table t as select id, md5(id::text) from generate_series(1, ${rows}) as id`);
  await server.sql("postgres", "create role dumper login password 'of dumper'; grant pg_read_all_data to dumper");
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const command = () => lab.dumpCommand({ databases: ["orders", "stock"], jobs: 1 }, [key.recipient]);

/** Kills the one program of that name that this process has started. */
async function kill(name: string): Promise<void> {
  const found = await waitFor(`${name} runs`, async () => {
    const own = (await listDescendants(process.pid)).filter((one) => one.name === name);
    return own.length > 0 && own;
  });
  expect(found.map((one) => one.name)).toEqual([name]);
  for (const { pid } of found) process.kill(pid, "SIGKILL");
}

async function stored(folder: string | undefined): Promise<string[]> {
  const below = join(lab.repository, "cls_test/backups", folder ?? "");
  const entries = await readdir(below, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}

const programs = async () => (await listDescendants(process.pid)).filter(({ name }) => /^(pg_|zstd|age)/.test(name));
const sessions = () =>
  server.sql("postgres", "select count(*) from pg_stat_activity where application_name ~ '^(coppice|pg_)'");

/** Nothing of the dump that failed goes on, and the next one is as good as any. */
async function checkNext(): Promise<void> {
  expect(await programs()).toEqual([]);
  await expect.poll(sessions, { timeout: 5_000 }).toBe("0");
  const next = await lab.dump(command());
  expect(next.failure).toBeUndefined();
  expect(next.result.manifest?.complete).toBe(true);
}

// The consumer of a pipe that dies is the second or the third of the chain.
test.each(["pg_dump", "zstd", "age"])(
  "of a database whose %s is killed nothing is stored, the others are, and the killed one is named",
  async (program) => {
    const wanted = command();
    await using held = await holdTable(server, "orders", "t");
    const dumping = lab.dump(wanted);
    await held.waitedFor();
    await kill(program);
    const dumped = await dumping;
    await held.release();
    expect(dumped.failure).toMatchObject({ reason: "BACKUP_INCOMPLETE" });
    expect(dumped.failure?.message).toMatch(new RegExp(`"orders": ${program} .*SIGKILL`));
    const content = dumpContent(dumped.result.manifest);
    expect(content?.databases.map(({ name }) => name)).toEqual(["stock"]);
    expect(content?.missing.map(({ name }) => name)).toContain("orders");
    const keys = await stored(wanted.backup?.folder);
    expect(keys.filter((name) => name.includes(".dump."))).toHaveLength(1);
    await checkNext();
  },
);

const patience = () => lab.log.filter((line) => line.startsWith("the server does not answer any more and is waited"));

test("a dump under which PostgreSQL is restarted keeps what is whole, and never counts as whole itself", async () => {
  const wanted = lab.dumpCommand({ databases: ["bulk", "orders"], jobs: 1 }, [key.recipient]);
  await using held = await holdTable(server, "orders", "t");
  const before = patience().length;
  const dumping = lab.dump(wanted);
  const isOver = dumping.then(
    () => true,
    () => true,
  );
  await held.waitedFor();
  await server.stop("immediate");
  await Promise.race([isOver, waitFor("the server is missed", async () => patience().length > before)]);
  await server.start();
  await held.lost;
  const { failure, result } = await dumping;
  expect(failure).toMatchObject({ reason: "BACKUP_INCOMPLETE" });
  expect(result.manifest?.complete).toBe(false);
  const content = dumpContent(result.manifest);
  expect(content?.databases.map(({ name }) => name)).toEqual(["bulk"]);
  expect(content?.missing).toMatchObject([{ name: "orders", reason: MissingReason.FAILED }]);
  expect((await stored(wanted.backup?.folder)).filter((name) => name.includes(".dump."))).toHaveLength(1);
  await checkNext();
});

/** Takes every connection that the server still gives. */
async function takeAllConnections(): Promise<Client[]> {
  const clients: Client[] = [];
  for (;;) {
    const client = new Client({
      host: "127.0.0.1",
      port: server.port,
      user: server.superuser,
      password: server.password,
      database: "postgres",
    });
    client.on("error", () => {});
    try {
      await client.connect();
      clients.push(client);
    } catch (error) {
      if (!(error instanceof DatabaseError && error.code === "53300")) throw error;
      return clients;
    }
  }
}

test("a server that gives no more connections is named as that, before a dump and in the middle of one", async () => {
  const early: BackupDumpCommand = command();
  const clients = await takeAllConnections();
  const refused = await lab.dump(early).catch((error: unknown) => error);
  expect(isFailure(refused) && `${refused.reason}: ${refused.message}`).toMatch(/: .*too many clients already/);
  expect(await stored(early.backup?.folder)).toEqual([]);
  for (const client of clients) await client.end();

  // The limit of a role binds where that of the server does: at the next connection.
  const late = lab.dumpCommand({ databases: ["orders", "stock"], jobs: 1 });
  if (late.connection?.endpoint) late.connection.endpoint.user = "dumper";
  await using held = await holdTable(server, "orders", "t");
  const before = patience().length;
  const dumping = lab.dump(late, { password: "of dumper" });
  const isOver = dumping.then(
    () => true,
    () => true,
  );
  await held.waitedFor();
  await server.sql("postgres", "alter role dumper connection limit 0");
  await held.release();
  await Promise.race([isOver, waitFor("the server is missed", async () => patience().length > before)]);
  await server.sql("postgres", "alter role dumper connection limit -1");
  const { failure, result } = await dumping;
  expect(failure).toMatchObject({ reason: "BACKUP_INCOMPLETE" });
  expect(failure?.message).toMatch(/"stock": .*too many connections for role "dumper"/);
  expect(dumpContent(result.manifest)?.databases.map(({ name }) => name)).toEqual(["orders"]);
  await checkNext();
});

test("a finished dump is kept when the server lets nobody look at it once more", async () => {
  const wanted = lab.dumpCommand({ databases: ["orders", "stock"], jobs: 1 });
  if (wanted.connection?.endpoint) wanted.connection.endpoint.user = "dumper";
  await using held = await holdTable(server, "orders", "t");
  const dumping = lab.dump(wanted, { password: "of dumper" });
  await held.waitedFor();
  await server.sql("postgres", "alter role dumper nologin");
  await held.release();
  const { failure, result } = await dumping;
  await server.sql("postgres", "alter role dumper login");
  expect(failure).toMatchObject({ reason: "BACKUP_INCOMPLETE" });
  const content = dumpContent(result.manifest);
  expect(content).toMatchObject({ rolesChanged: true, missing: [{ name: "stock", reason: MissingReason.FAILED }] });
  expect(content?.databases.map(({ name }) => name)).toEqual(["orders"]);
  expect((await stored(wanted.backup?.folder)).filter((name) => name.includes(".dump."))).toHaveLength(1);
});

/** Keeps whoever restores into the database waiting before the first object. */
async function holdDatabase(oid: number): Promise<Client> {
  const database = await server.sql("postgres", `select datname from pg_database where oid = ${oid}`);
  const { port, superuser: user, password } = server;
  const gate = new Client({ host: "127.0.0.1", port, user, password, database });
  // It ends with the database that it holds.
  gate.on("error", () => {});
  await gate.connect();
  await gate.query("begin; lock table pg_class in share row exclusive mode");
  return gate;
}

/** A restore of the encrypted backup in place of the original, stopped before its first object; gives how it ended. */
async function interruptRestore(dumped: Dumped, interrupt: () => Promise<void>): Promise<unknown> {
  const restore = lab.restoreCommand(dumped, "bulk", "bulk", RestoreMode.REPLACE);
  let gate: Client | undefined;
  const restoring = lab
    .restore(restore, {
      identities: key.identityFile,
      async onStaged(oid) {
        gate = await holdDatabase(oid);
      },
    })
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  await waitFor("pg_restore waits", async () => {
    const waiting = `select count(*) from pg_stat_activity where wait_event_type = 'Lock'`;
    return (await server.sql("postgres", waiting)) !== "0";
  });
  await interrupt();
  const failure = await restoring;
  await gate?.end().catch(() => {});
  return failure;
}

const databaseNames = () => server.sql("postgres", "select string_agg(datname, ' ' order by datname) from pg_database");

// Each of them is the consumer of a pipe, or its producer.
test("a restore whose pg_restore, zstd or age is killed leaves the original as it was, and the killed one is named", async () => {
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["bulk"] }, [key.recipient]));
  const [before, names] = [await portrayDatabase(server, "bulk"), await databaseNames()];
  for (const program of ["pg_restore", "zstd", "age"]) {
    const failure = await interruptRestore(dumped, () => kill(program));
    expect(isFailure(failure, "PROGRAM_FAILED") && failure.message).toMatch(new RegExp(`${program} .*SIGKILL`));
    expect(await portrayDatabase(server, "bulk")).toBe(before);
    expect(await databaseNames()).toBe(names);
    expect(await programs()).toEqual([]);
  }
  expect(lab.log.filter((line) => line.startsWith("leaving"))).toEqual([]);
});

test("a restore under which PostgreSQL is restarted fails with that and leaves the original as it was", async () => {
  const dumped = await lab.dump(lab.dumpCommand({ databases: ["bulk"] }, [key.recipient]));
  const [before, names] = [await portrayDatabase(server, "bulk"), await databaseNames()];
  for (const how of ["fast", "immediate"] as const) {
    const failure = await interruptRestore(dumped, async () => {
      await server.stop(how);
      await server.start();
    });
    expect(isFailure(failure) && `${failure.reason}: ${failure.message}`).toMatch(
      /^(PROGRAM_FAILED: pg_restore .*(terminat|server closed|connection)|CLUSTER_UNREACHABLE: )/,
    );
    expect(await portrayDatabase(server, "bulk")).toBe(before);
    expect(await databaseNames()).toBe(names);
    expect(await programs()).toEqual([]);
  }
  expect(lab.log.filter((line) => line.startsWith("leaving"))).toEqual([]);
});
