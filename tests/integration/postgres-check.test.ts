import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { ConnectionSchema, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runProgram } from "../../agent/src/host/run.ts";
import { checkCluster } from "../../agent/src/postgres/check/check.ts";
import { discoverClusters } from "../../agent/src/postgres/discover.ts";
import { resolveEndpoint } from "../../agent/src/postgres/endpoint.ts";
import { findToolAccess } from "../../agent/src/postgres/tool-access.ts";
import { findTools } from "../../agent/src/postgres/tools.ts";
import { openEmbeddedPostgres } from "../../control-plane/src/embedded/embedded-postgres.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";

const password = "pass of either";
const signal = AbortSignal.timeout(120_000);
let home: string;
let server: PostgresServer;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "coppice-check-"));
  server = await openPostgresServer({ major: 15 });
  await server.sql("postgres", `create role either login password '${password}'; create database other_db`);
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true });
});

const connectionOf = (user: string, port: number) =>
  create(ConnectionSchema, { endpoint: { address: { case: "host", value: "127.0.0.1" }, port, user } });

/** What pg_dumpall gets to see of roles and tablespaces. */
async function dumpedGlobals(user: string): Promise<string> {
  const resolved = await resolveEndpoint(connectionOf(user, server.port).endpoint, password, { home });
  const access = await findToolAccess(resolved, { tools: await findTools(15, { signal }), signal });
  const program = access.connecting("pg_dumpall", "postgres", ["--globals-only"]);
  return (await runProgram(program, { signal })).stdout.toString();
}

test("a check says what works, what is missing and the statement that mends it", async () => {
  await server.sql("postgres", "create database shut allow_connections false");
  const files = { home };
  // What physical backups ask for has a file of its own.
  const physical = new Set(["replication-role", "checksums", "slot-limit", "wal-space"]);
  const check = async (user: string, port: number) => {
    const { facts, items } = await checkCluster({ connection: connectionOf(user, port), password, files, signal });
    return { facts, items: items.filter(({ name }) => !physical.has(name)) };
  };
  const result = await check("either", server.port);
  expect(result.facts).toMatchObject({ superuser: false, inRecovery: false, isLocal: true });
  expect(result.items.map(({ name, status }) => [name, CheckStatus[status]])).toEqual([
    ["connection", "OK"],
    ["tools", "OK"],
    ["privileges", "WARNING"],
    ["settings", "WARNING"],
    ["role-passwords", "WARNING"],
    ["databases", "WARNING"],
  ]);
  expect(result.items.find(({ name }) => name === "privileges")?.fix).toBe('GRANT pg_read_all_data TO "either";');
  expect(result.items.find(({ name }) => name === "settings")?.fix).toBe('GRANT pg_read_all_settings TO "either";');
  expect(result.items.find(({ name }) => name === "databases")?.fix).toBe(
    'ALTER DATABASE "shut" ALLOW_CONNECTIONS true;',
  );
  // Each statement mends its own item and needs no more: nobody becomes a superuser for it.
  for (const mended of ["role-passwords", "privileges", "settings", "databases"]) {
    const items = (await check("either", server.port)).items;
    await server.sql("postgres", items.find(({ name }) => name === mended)?.fix ?? "");
    const left = items.filter(({ name }) => name !== mended || name === "privileges");
    expect((await check("either", server.port)).items.map(({ name }) => name)).toEqual(left.map(({ name }) => name));
    expect(await dumpedGlobals("either")).toContain("PASSWORD 'SCRAM-SHA-256$");
  }
  const mended = await check("either", server.port);
  expect(mended.items.map(({ status }) => status)).toEqual(mended.items.map(() => CheckStatus.OK));
  expect(mended.facts?.superuser).toBe(false);
  for (const refused of [await check("nobody", server.port), await check("either", 1)]) {
    expect(refused.facts).toBeUndefined();
    expect(refused.items).toEqual([
      expect.objectContaining({
        name: "connection",
        status: CheckStatus.FAILED,
        fix: expect.stringContaining(" ") as unknown,
      }),
    ]);
  }
});

test("over a socket the tools run as the server's user, so that peer lets them in", async () => {
  const endpoint = create(EndpointSchema, {
    address: { case: "socketDirectory", value: server.socketDir },
    port: server.port,
  });
  const resolved = await resolveEndpoint(endpoint, password, { home });
  const access = await findToolAccess(resolved, { tools: await findTools(15, { signal }), signal });
  expect(access.user?.name).toBe(process.getuid?.() === 0 ? server.owner.name : undefined);
  const program = access.connecting("psql", "other_db", ["-XAt", "--command=select current_user"]);
  expect((await runProgram(program, { signal })).stdout.toString()).toBe("postgres\n");
  expect(program.args.join(" ")).not.toContain(password);
});

test("tools of the server's major are taken, else newer ones, never older ones", async () => {
  const folders = ["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/18/bin", "/usr/bin"];
  expect(await findTools(15, { signal })).toMatchObject({ major: 15, folder: folders[0] });
  expect(await findTools(16, { signal, folders })).toMatchObject({ major: 18 });
  await expect(findTools(18, { signal, folders: folders.slice(0, 1) })).rejects.toMatchObject({
    reason: "TOOLS_TOO_OLD",
    hint: expect.stringContaining("postgresql-client-18") as unknown,
  });
  await expect(findTools(15, { signal, folders: [home] })).rejects.toMatchObject({ reason: "TOOLS_MISSING" });
});

test("running clusters of the host are found with their owner, port and identifier", async () => {
  const found = (await discoverClusters(signal)).find(({ dataDirectory }) => dataDirectory === server.dataDir);
  expect(found).toMatchObject({
    port: server.port,
    socketDirectory: server.socketDir,
    owner: server.owner.name,
    major: 15,
    running: true,
    systemIdentifier: await server.sql("postgres", "select system_identifier from pg_control_system()"),
  });
});

test("a server whose postmaster.pid is closed to the agent runs by its command line, else it is unknown and not stopped", async () => {
  const configuration = await mkdtemp(join(tmpdir(), "coppice-debian-"));
  const closed = join(configuration, "closed-data");
  try {
    await configure(configuration, { closed, seen: server.dataDir });
    await mkdir(closed);
    await chmod(closed, 0);
    const found = await asNobody(() => discoverClusters(signal, configuration));
    expect(found.find(({ dataDirectory }) => dataDirectory === closed)).toMatchObject({
      running: false,
      runningUnknown: expect.stringContaining(`may not read ${closed}/postmaster.pid`) as unknown,
    });
    expect(found.find(({ debianName }) => debianName === "15/seen")).toMatchObject({
      running: true,
      runningUnknown: "",
    });
  } finally {
    await chmod(closed, 0o700);
    await rm(configuration, { recursive: true, force: true });
  }
});

/** Writes Debian's configuration of clusters of 15, by their names. */
async function configure(configuration: string, dataDirectories: Record<string, string>): Promise<void> {
  for (const [name, dataDirectory] of Object.entries(dataDirectories)) {
    await mkdir(join(configuration, "15", name), { recursive: true });
    const text = `data_directory = '${dataDirectory}'\nport = 1\nunix_socket_directories = '/nowhere'\n`;
    await writeFile(join(configuration, "15", name, "postgresql.conf"), text);
  }
  await chmod(configuration, 0o755);
}

/** As root nothing is closed: then as somebody else. */
async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) return await work();
  process.seteuid?.("nobody");
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

test("the server of a control plane's own catalog is not offered, and hides no other one", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-embedded-"));
  // Or its server would lie elsewhere, and stay there.
  await chmod(folder, 0o711);
  try {
    await using embedded = await openEmbeddedPostgres({ dataDirectory: folder, signal });
    const listed = (await discoverClusters(signal))
      .map((one) => `${one.dataDirectory} ${one.socketDirectory}`)
      .join("\n");
    expect(listed).toContain(server.dataDir);
    expect(listed).not.toContain(embedded.folder);
    expect(listed).not.toContain(new URL(embedded.url).searchParams.get("host"));
    // Whoever may see no process's working folder tells them apart by their command lines.
    await configure(folder, { seen: server.dataDir });
    expect(await asNobody(() => discoverClusters(signal, folder))).toContainEqual(
      expect.objectContaining({ dataDirectory: server.dataDir, running: true, runningUnknown: "" }),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("a check looks into each database for what a dump of it would be refused, and each statement mends its own", async () => {
  const name = 'odd "db"';
  await server.sql("postgres", `create role watcher login password '${password}'; create database "odd ""db"""`);
  await server.sql(
    name,
    `create table "a b" (x int); create sequence s; select lo_create(4711);
     create table hidden (x int); grant select on hidden to public; alter table hidden enable row level security`,
  );
  await server.sql("postgres", "create database closed; revoke connect on database closed from public");
  const contents = async () => {
    const connection = connectionOf("watcher", server.port);
    const { items } = await checkCluster({ connection, password, files: { home }, signal });
    return items.filter((item) => item.name === "contents");
  };
  const dump = async (database: string) => {
    const resolved = await resolveEndpoint(connectionOf("watcher", server.port).endpoint, password, { home });
    const access = await findToolAccess(resolved, { tools: await findTools(15, { signal }), signal });
    return await runProgram(access.connecting("pg_dump", database, []), { signal }).then(
      () => true,
      () => false,
    );
  };
  expect((await contents()).map(({ message }) => message.replace(/:[^:]*$/, ""))).toEqual([
    expect.stringMatching(/^the database "closed" cannot be looked into, and its dump fails/),
    'the database "odd \\"db\\"" has 2 tables or sequences that "watcher" may not read, and its dump fails',
    'the database "odd \\"db\\"" has 1 tables whose row security hides rows from "watcher", and its dump fails',
    'the database "odd \\"db\\"" has 1 large objects of others that "watcher" may not read, and its dump fails',
  ]);
  expect((await contents()).map(({ database }) => database)).toEqual(["closed", name, name, name]);
  for (let left = 4; left > 0; left -= 1) {
    const items = await contents();
    expect(items).toHaveLength(left);
    expect([await dump("closed"), await dump(name)]).toContain(false);
    await server.sql("postgres", items[0]?.fix ?? "");
  }
  expect(await contents()).toEqual([]);
  expect([await dump("closed"), await dump(name)]).toEqual([true, true]);
});
