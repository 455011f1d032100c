// What becomes of who asks a server whose processes hang, each stopped as a dead disk or a stuck lock would stop it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { ConnectionSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { openLog } from "@coppice/proto/kit/log";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkCluster } from "../../agent/src/postgres/check/check.ts";
import { openLook } from "../../agent/src/postgres/connect.ts";
import { openReplication, type ReplicationConnection } from "../../agent/src/postgres/replication/open-replication.ts";
import { openMaxAge } from "../../agent/src/wal/push/max-age.ts";
import { supervise } from "../../agent/src/wal/push/supervise.ts";
import { openLedger } from "../../agent/src/wal/receive/ledger.ts";
import { watchServer } from "../../agent/src/wal/receive/watch-server.ts";
import { openPhysicalLab } from "../support/physical/physical-lab.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { replicationEndpoint } from "../support/replication/replication-endpoint.ts";
import { openTcpProxy } from "../support/replication/tcp-proxy.ts";
import { postmasterOf, serverProcesses, stopProcesses } from "../support/faults/stop-processes.ts";

const signal = AbortSignal.timeout(240_000);
const answerMs = 500;
const patient = { timeout: 20_000 };
const log = openLog({ level: "error", name: "test" });
const hung = {
  reason: "CLUSTER_UNREACHABLE",
  message: expect.stringContaining("has not answered for 500ms") as string,
};
let server: PostgresServer;
let systemIdentifier: string;
beforeAll(async () => {
  server = await openPostgresServer({ major: 18, settings: { summarize_wal: "on" } });
  systemIdentifier = await server.sql("postgres", "select system_identifier from pg_control_system()");
});
afterAll(async () => server?.[Symbol.asyncDispose]());

const endpoint = () => replicationEndpoint(server);
/** Of sessions of this process, which come by TCP. */
const sessions = () => serverProcesses(server, "127.0.0.1(");
const sink = {
  onArchive: async ({ content }: { content: AsyncIterable<Uint8Array> }) => void (await buffer(content)),
  onManifest: async (content: AsyncIterable<Uint8Array>) => void (await buffer(content)),
};

test("a replication command that is answered at once by a sound server ends with its line when it is not", async () => {
  const commands: ((replication: ReplicationConnection) => Promise<unknown>)[] = [
    (replication) => replication.identify(),
    (replication) => replication.show("port"),
    (replication) => replication.readSlot("one"),
    (replication) => replication.createSlot("one", { temporary: true, reserveWal: true }),
    (replication) => replication.baseBackup({ label: "x", checkpoint: "fast" }, sink),
  ];
  for (const command of commands) {
    await using replication = await openReplication(endpoint(), { signal, answerMs });
    await replication.identify();
    using _stopped = stopProcesses(sessions());
    await expect(command(replication)).rejects.toMatchObject(hung);
    await expect(replication.identify()).rejects.toMatchObject(hung);
  }
});

test("a look that is left open ends with its connection, and what may take long does not", async () => {
  await using connection = await openLook(endpoint(), { signal, answerMs });
  await connection.query("select pg_sleep(1)", [], { answerMs: 5000 });
  using _stopped = stopProcesses(sessions());
  await expect(connection.query("select 1")).rejects.toMatchObject(hung);
  await expect(connection.query("select 1")).rejects.toMatchObject(hung);
});

test("a checkpoint is waited for as long as it takes, and a server that answers nobody meanwhile is given up", async () => {
  const options = { label: "x", checkpoint: "fast", unansweredMs: 1000 } as const;
  await using replication = await openReplication(endpoint(), { signal });
  using stopped = stopProcesses(serverProcesses(server, "checkpointer"));
  const taking = replication.baseBackup(options, sink);
  await delay(3000);
  stopped[Symbol.dispose]();
  await expect(taking).resolves.toMatchObject({ checksumFailures: 0 });

  using _checkpointer = stopProcesses(serverProcesses(server, "checkpointer"));
  const waiting = replication.baseBackup(options, sink);
  using _postmaster = stopProcesses([postmasterOf(server)]);
  await expect(waiting).rejects.toMatchObject({
    reason: "CLUSTER_UNREACHABLE",
    message: expect.stringContaining("has not begun the backup and has answered nobody for 1s") as string,
  });
});

test("a backup says since when it waits for the checkpoint", async () => {
  await using lab = await openPhysicalLab(server);
  await lab.take(lab.command());
  expect(lab.progress.map(({ phase, item }) => `${phase} ${item}`)).toContainEqual(
    expect.stringMatching(/^waiting for checkpoint since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
  );
});

test("a parent's manifest that nobody takes is given up, one that comes slowly is not", async () => {
  const manifest = async function* (before: () => Promise<void>) {
    yield Buffer.alloc(1024, " ");
    await before();
    for (let count = 0; count < 64; count++) yield Buffer.alloc(1 << 20, " ");
  };
  await using replication = await openReplication(endpoint(), { signal });
  const slow = replication.uploadManifest(
    manifest(() => delay(1500)),
    { silenceMs: 500 },
  );
  await expect(slow).rejects.toMatchObject({ reason: "INCREMENTAL_REFUSED" });
  using stack = new DisposableStack();
  const stopped = replication.uploadManifest(
    manifest(async () => void stack.use(stopProcesses(sessions()))),
    { silenceMs: 500 },
  );
  await expect(stopped).rejects.toMatchObject(hung);
});

test("who supervises a server tells that a look was left open, and looks again by another connection", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-hung-"));
  const told: (string | undefined)[] = [];
  const ending = new AbortController();
  const supervising = supervise(
    {
      endpoint: async () => endpoint(),
      systemIdentifier,
      slot: "none",
      command: "exit 0",
      socket: join(folder, "push", "socket"),
      maxAge: openMaxAge(60_000),
      onLook: async () => {},
      onTrouble: (trouble) => told.push(trouble?.message),
      log,
      answerMs,
    },
    ending.signal,
  );
  await expect.poll(() => told, patient).toContain(undefined);
  const before = told.length;
  using _stopped = stopProcesses(sessions());
  await expect.poll(() => told.slice(before), patient).toEqual(expect.arrayContaining([hung.message, undefined]));
  ending.abort();
  await supervising;
  await rm(folder, { recursive: true });
});

test("who reads a server's time gives up a connection that hangs", async () => {
  let anchors = 0;
  const lines: string[] = [];
  const ending = new AbortController();
  const ids = { clusterId: "cls_test", clusterName: "shop", repositoryId: "rep_test", systemIdentifier };
  const watching = watchServer(
    {
      endpoint: async () => endpoint(),
      systemIdentifier,
      // Without one it looks again soon.
      slot: "none",
      ledger: openLedger(ids),
      onAnchor: () => void anchors++,
      log: openLog({ level: "debug", name: "test", to: { write: (line: string) => void lines.push(line) } }),
      answerMs,
    },
    ending.signal,
  );
  await expect.poll(() => anchors, patient).toBeGreaterThan(0);
  using _stopped = stopProcesses(sessions());
  await expect.poll(() => lines, patient).toContainEqual(expect.stringContaining("CLUSTER_UNREACHABLE"));
  ending.abort();
  await watching;
});

test("a check of a cluster ends when its session hangs", async () => {
  using stack = new DisposableStack();
  let connections = 0;
  // The second one is that of the tools.
  await using proxy = await openTcpProxy(() => {
    if (++connections === 2) stack.use(stopProcesses(sessions()));
    return server.port;
  });
  const { items } = await checkCluster({
    connection: create(ConnectionSchema, {
      endpoint: {
        address: { case: "host", value: "127.0.0.1" },
        port: proxy.port,
        user: server.superuser,
        sslmode: "disable",
      },
    }),
    password: server.password,
    files: { home: "/nonexistent" },
    answerMs,
    signal,
  });
  expect(items[0]).toMatchObject({ name: "connection", message: hung.message });
});
