import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { ConnectionSchema, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runProgram } from "../../agent/src/host/run.ts";
import { checkCluster } from "../../agent/src/postgres/check.ts";
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

test("a check says what works, what is missing and the statement that mends it", async () => {
  await server.sql("postgres", "create database shut allow_connections false");
  const files = { home };
  const check = (user: string, port: number) =>
    checkCluster({ connection: connectionOf(user, port), password, files, signal });
  const result = await check("either", server.port);
  expect(result.facts).toMatchObject({ superuser: false, inRecovery: false, isLocal: true });
  expect(result.items.map(({ name, status }) => [name, CheckStatus[status]])).toEqual([
    ["connection", "OK"],
    ["tools", "OK"],
    ["privileges", "WARNING"],
    ["role-passwords", "WARNING"],
    ["databases", "WARNING"],
  ]);
  expect(result.items.find(({ name }) => name === "privileges")?.fix).toBe('GRANT pg_read_all_data TO "either";');
  expect(result.items.find(({ name }) => name === "databases")?.fix).toBe(
    'ALTER DATABASE "shut" ALLOW_CONNECTIONS true;',
  );
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
    for (const [name, dataDirectory] of [
      ["closed", closed],
      ["seen", server.dataDir],
    ] as const) {
      await mkdir(join(configuration, "15", name), { recursive: true });
      const text = `data_directory = '${dataDirectory}'\nport = 1\nunix_socket_directories = '/nowhere'\n`;
      await writeFile(join(configuration, "15", name, "postgresql.conf"), text);
    }
    await mkdir(closed);
    await chmod(closed, 0);
    await chmod(configuration, 0o755);
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

test("the server of a control plane's own catalog is not offered", async () => {
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
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
