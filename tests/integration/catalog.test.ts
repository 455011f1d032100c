// Longer than most because it is one thing: what the database itself refuses and keeps, over one embedded server.
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { newId } from "@coppice/proto/kit/id";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Catalog, type Database, openCatalog } from "../../control-plane/src/catalog/catalog.ts";
import { insertCluster } from "../../control-plane/src/catalog/cluster.ts";
import { migrateCatalog } from "../../control-plane/src/catalog/migrate.ts";
import { deleteRepository, findRepository, insertRepository } from "../../control-plane/src/catalog/repository.ts";
import { backup, backupCopy } from "../../control-plane/src/catalog/schema/backup.ts";
import { host } from "../../control-plane/src/catalog/schema/host.ts";
import { operation } from "../../control-plane/src/catalog/schema/operation.ts";
import { insertToken, revokeToken } from "../../control-plane/src/catalog/token.ts";
import {
  type EmbeddedPostgres,
  findRunningServer,
  openEmbeddedPostgres,
} from "../../control-plane/src/embedded/embedded-postgres.ts";
import { deleteHost } from "../../control-plane/src/catalog/host.ts";
import { deleteCluster } from "../../control-plane/src/catalog/cluster.ts";
import { makeDataFolder } from "../support/control-plane.ts";

const { signal } = new AbortController();
let folder = "";
let server: EmbeddedPostgres;
let admin: postgres.Sql;

beforeAll(async () => {
  folder = await makeDataFolder();
  server = await openEmbeddedPostgres({ dataDirectory: folder, signal });
  admin = connect(server.url);
});
afterAll(async () => {
  await admin.end();
  await server[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

function connect(url: string): postgres.Sql {
  const { searchParams, pathname, password } = new URL(url);
  const path = `${searchParams.get("host")}/.s.PGSQL.5432`;
  return postgres({ path, user: "coppice", password, database: pathname.slice(1), max: 2, onnotice: () => {} });
}

async function newDatabase(): Promise<string> {
  const name = newId("cmd");
  await admin.unsafe(`create database ${name}`);
  const url = new URL(server.url);
  url.pathname = `/${name}`;
  return url.href;
}

async function seed(catalog: Catalog) {
  const ids = { host: newId("hst"), cluster: newId("cls"), repository: newId("rep"), backup: newId("bkp") };
  await catalog.transaction(async (tx) => {
    await tx.insert(host).values({ id: ids.host, name: "db7" });
    await insertCluster(tx, { id: ids.cluster, name: "shop", labels: {} }, instance(ids));
    await insertRepository(tx, place(ids, "main"));
    await tx.insert(backup).values({
      id: ids.backup,
      clusterId: ids.cluster,
      kind: "DUMP",
      complete: true,
      defaultDatabases: true,
      startTime: new Date(),
      endTime: new Date(),
      databaseBytes: 1n,
      storedBytes: 1n,
      serverVersionNum: 180_000,
      operationId: newId("op"),
      manifest: {},
      recipe: "",
    });
    await tx.insert(backupCopy).values({
      backupId: ids.backup,
      repositoryId: ids.repository,
      folder: "f",
      state: "STORED",
      manifestSha256: "0".repeat(64),
    });
  });
  return ids;
}

function instance(ids: { host: string; cluster: string }) {
  return { id: newId("ins"), clusterId: ids.cluster, hostId: ids.host, endpoint: {} };
}

function place(ids: { host: string; repository: string }, name: string) {
  const locationKey = "filesystem:db7:/srv";
  return {
    id: ids.repository,
    name,
    labels: {},
    location: {},
    locationKey,
    writeSecretId: null,
    readSecretId: null,
    deleteSecretId: null,
    encryption: null,
    identitySecretId: null,
    homeHostId: ids.host,
  };
}

async function requireRow(tx: Database, id: string) {
  const row = await findRepository(tx, id);
  if (row === undefined) throw new Error(`there is no repository ${id}`);
  return row;
}

test("the embedded server is PostgreSQL 18, asks for a password and listens on no port", async () => {
  const [row] = await admin`select current_setting('server_version_num')::int / 10000 as major,
    current_setting('listen_addresses') as addresses, (select bool_and(auth_method = 'scram-sha-256') from pg_hba_file_rules) as scram`;
  expect(row).toEqual({ major: 18, addresses: "", scram: true });
});

test("a second control plane on the same data folder is refused, and a command finds the running server", async () => {
  await expect(openEmbeddedPostgres({ dataDirectory: folder, signal })).rejects.toMatchObject({
    reason: "CONFIGURATION_INVALID",
    message: expect.stringContaining(`process ${process.pid}`) as string,
  });
  expect(await findRunningServer(folder)).toBe(server.url);
});

test("replicas that start at once migrate once, and agree on one incarnation", async () => {
  const url = await newDatabase();
  const catalogs = await Promise.all(Array.from({ length: 4 }, () => openCatalog({ url, signal })));
  try {
    expect(new Set(catalogs.map(({ incarnation }) => incarnation)).size).toBe(1);
    expect(await migrateCatalog(url)).toEqual({ applied: 0 });
  } finally {
    await Promise.all(catalogs.map((catalog) => catalog[Symbol.asyncDispose]()));
  }
});

test("a schema of a newer version is refused with a hint and not touched", async () => {
  const url = await newDatabase();
  await migrateCatalog(url);
  await using sql = withEnd(connect(url));
  await sql.client`insert into drizzle.__drizzle_migrations (hash, created_at) values ('newer', 9999999999999)`;
  await expect(openCatalog({ url, signal })).rejects.toMatchObject({
    reason: "SCHEMA_TOO_NEW",
    hint: "start the version that made the catalog, or a newer one",
  });
});

function withEnd(client: postgres.Sql) {
  return { client, [Symbol.asyncDispose]: () => client.end() };
}

test("the database itself refuses what must not be, and says which rule was broken", async () => {
  await using catalog = await openCatalog({ url: await newDatabase(), signal });
  const ids = await seed(catalog);
  const attempts: [string, Parameters<Catalog["transaction"]>[0], string][] = [
    ["a second host of a name", (tx) => tx.insert(host).values({ id: newId("hst"), name: "db7" }), "NAME_TAKEN"],
    [
      "a second cluster of a name",
      (tx) => {
        const other = { ...ids, cluster: newId("cls") };
        return insertCluster(tx, { id: other.cluster, name: "shop", labels: {} }, instance(other));
      },
      "NAME_TAKEN",
    ],
    [
      "a place that is registered",
      (tx) => insertRepository(tx, place({ ...ids, repository: newId("rep") }, "again")),
      "REPOSITORY_EXISTS",
    ],
    ["deleting a host with clusters", (tx) => deleteHost(tx, ids.host), "HOST_IN_USE"],
    ["deleting a cluster with backups", (tx) => deleteCluster(tx, ids.cluster), "CLUSTER_IN_USE"],
    [
      "deleting a repository with backups",
      async (tx) => deleteRepository(tx, await requireRow(tx, ids.repository)),
      "REPOSITORY_IN_USE",
    ],
  ];
  for (const [what, attempt, reason] of attempts) {
    await expect(catalog.transaction(attempt), what).rejects.toMatchObject({ name: "Failure", reason });
  }
  const checks: [string, Parameters<Catalog["transaction"]>[0], string][] = [
    ["a name with an underscore", (tx) => tx.insert(host).values({ id: newId("hst"), name: "db_8" }), "host_name_form"],
    [
      "a state that is none",
      (tx) => tx.insert(host).values({ id: newId("hst"), name: "db8", state: "GONE" as "UNKNOWN" }),
      "host_state_known",
    ],
    [
      "an end without a terminal state",
      (tx) => tx.insert(operation).values({ ...anOperation, id: newId("op"), endTime: new Date() }),
      "operation_ended",
    ],
    [
      "a failure without a reason",
      (tx) => tx.insert(operation).values({ ...anOperation, id: newId("op"), state: "FAILED", endTime: new Date() }),
      "operation_failed_says_why",
    ],
  ];
  for (const [what, attempt, constraint] of checks) {
    await expect(catalog.transaction(attempt), what).rejects.toMatchObject({ cause: { constraint_name: constraint } });
  }
});

const anOperation = { kind: "check_cluster", spec: {}, principal: "system", principalId: "system" };

test("a name is free again when its token was revoked, and two live ones never share it", async () => {
  await using catalog = await openCatalog({ url: await newDatabase(), signal });
  const token = (fill: number) =>
    ({ id: newId("tok"), name: "ci", hash: Buffer.alloc(32, fill), role: "VIEWER", expireTime: null }) as const;
  const first = await insertToken(catalog.db, token(1));
  await expect(catalog.transaction((tx) => insertToken(tx, token(2)))).rejects.toMatchObject({ reason: "NAME_TAKEN" });
  expect(await revokeToken(catalog.db, first.id, new Date())).toBe(true);
  expect(await revokeToken(catalog.db, first.id, new Date())).toBe(false);
  await catalog.transaction((tx) => insertToken(tx, token(2)));
});

test("a notice reaches who listens, also after its connection was cut", async () => {
  await using catalog = await openCatalog({ url: await newDatabase(), signal });
  const heard: string[] = [];
  await using _listening = await catalog.listen("coppice_host", (payload) => void heard.push(payload));
  const hear = async (id: string) => {
    await expect
      .poll(async () => {
        await deleteHost(catalog.db, id);
        return heard.includes(id);
      })
      .toBe(true);
  };
  await hear("hst_1");
  await admin`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'coppice-control-listen'`;
  await hear("hst_2");
});

test("a database that does not answer is reported as that, without its address or password", async () => {
  const url = "postgres://user:hunter2@127.0.0.1:1/catalog";
  const refused = openCatalog({ url, signal });
  await expect(refused).rejects.toMatchObject({ reason: "CATALOG_UNREACHABLE" });
  await expect(refused).rejects.toThrow(/^(?!.*hunter2).*$/s);
});

test("a data folder whose password file is gone is refused and not replaced", async () => {
  const other = await makeDataFolder();
  try {
    const first = await openEmbeddedPostgres({ dataDirectory: other, signal });
    await first[Symbol.asyncDispose]();
    const file = join(other, "postgresql-password");
    const password = await readFile(file, "utf8");
    await rm(file);
    await expect(openEmbeddedPostgres({ dataDirectory: other, signal })).rejects.toMatchObject({
      reason: "CONFIGURATION_INVALID",
    });
    await writeFile(file, password, { mode: 0o600 });
    await using again = await openEmbeddedPostgres({ dataDirectory: other, signal });
    expect(again.url).toContain(password.trim());
  } finally {
    await rm(other, { recursive: true });
  }
});
