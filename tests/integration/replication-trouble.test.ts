// What may become of the connections that carry a backup: they fall silent, lead elsewhere, or end in an error at its end.
import { readdir } from "node:fs/promises";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openReplication } from "../../agent/src/postgres/replication/open-replication.ts";
import { openPhysicalLab, type PhysicalLab } from "../support/physical/physical-lab.ts";
import { openStandby } from "../support/physical/standby.ts";
import { initServer, openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { replicationEndpoint } from "../support/replication/replication-endpoint.ts";
import { openTcpProxy } from "../support/replication/tcp-proxy.ts";

const signal = AbortSignal.timeout(240_000);
const options = { label: "x", checkpoint: "fast" } as const;
let server: PostgresServer;
let lab: PhysicalLab;
beforeAll(async () => {
  server = await openPostgresServer({ major: 18, settings: { summarize_wal: "on" } });
  lab = await openPhysicalLab(server);
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

test("a server that nobody hears any more in the middle of a backup is given up, one that is not read is not", async () => {
  await using proxy = await openTcpProxy(() => server.port);
  await using replication = await openReplication(replicationEndpoint(server, { port: proxy.port }), { signal });
  const read = async (content: AsyncIterable<Uint8Array>) => void (await buffer(content));
  const slow = Promise.withResolvers<void>();
  setTimeout(slow.resolve, 2500);
  await replication.baseBackup(
    { ...options, silenceMs: 1000 },
    {
      onArchive: async ({ content }) => {
        await slow.promise;
        await read(content);
      },
      onManifest: read,
    },
  );
  const taking = replication.baseBackup(
    { ...options, silenceMs: 1000, maxRateKib: 4096 },
    {
      onArchive: async ({ content }) => {
        proxy.mute();
        await read(content);
      },
      onManifest: read,
    },
  );
  await expect(taking).rejects.toMatchObject({
    reason: "CLUSTER_UNREACHABLE",
    message: expect.stringContaining("fell silent in the middle of the backup") as string,
  });
});

test("an address that leads to another cluster by then gives no backup, whichever connection has come there", async () => {
  const { password } = server;
  const copy = { password, fill: (dataDir: string) => initServer(18, dataDir) };
  await using other = await openPostgresServer({ major: 18, copy });
  await other.sql("postgres", `alter role postgres password '${password}'`);
  // When all is looked at comes the connection of the WAL, where it is embedded, and then that of the backup.
  for (const [isEmbedded, sound] of [
    [false, 0],
    [true, 0],
    [true, 1],
  ] as const) {
    const said = lab.log.length;
    let later = 0;
    await using proxy = await openTcpProxy(() =>
      lab.log.slice(said).includes("PostgreSQL 18") && later++ >= sound ? other.port : server.port,
    );
    const command = lab.command({ walEmbedded: isEmbedded, walArchived: !isEmbedded });
    if (command.backup.repository && !isEmbedded) command.walRepository = command.backup.repository;
    const endpoint = command.connection?.endpoint;
    if (endpoint) Object.assign(endpoint, { port: proxy.port, sslmode: "disable" });
    expect(await lab.take(command).catch((error: unknown) => error), `${isEmbedded} ${sound}`).toMatchObject({
      reason: "CLUSTER_CHANGED",
    });
    expect(later).toBeGreaterThan(sound);
    expect(await readdir(lab.folderOf(command.backup)).catch(() => [])).toEqual([]);
  }
});

test("what the server refuses at the end of an incremental is no refusal of one", async () => {
  await using standby = await openStandby(server, { summarize_wal: "on" });
  const catchUp = async (write: string) => {
    await server.sql("postgres", write);
    const end = await server.sql("postgres", "select pg_current_wal_flush_lsn()");
    const there = () => standby.sql("postgres", `select pg_last_wal_replay_lsn() >= '${end}'`);
    await expect.poll(there, { timeout: 60_000 }).toBe("t");
  };
  await using replication = await openReplication(replicationEndpoint(standby), { signal });
  let manifest = Buffer.alloc(0);
  const sink = {
    onArchive: async ({ content }: { content: AsyncIterable<Uint8Array> }) => void (await buffer(content)),
    onManifest: async (content: AsyncIterable<Uint8Array>) => {
      manifest = await buffer(content);
    },
  };
  await replication.baseBackup(options, sink);
  // More than the socket's buffers take, so that the server is not done before the first of it is read.
  const rows = "select repeat(md5(id::text), 8) from generate_series(1, 120000) id";
  await catchUp(`create table later as ${rows}; checkpoint`);
  await standby.sql("postgres", "checkpoint");
  await replication.uploadManifest(Readable.from([manifest]));
  const onStart = async () => {
    await server.sql("postgres", "alter system set full_page_writes = off; select pg_reload_conf()");
    await expect.poll(() => server.sql("postgres", "show full_page_writes"), { timeout: 60_000 }).toBe("off");
    // Who makes it writes first that the setting has changed.
    await catchUp("checkpoint");
    await catchUp("checkpoint");
  };
  const taking = replication.baseBackup({ ...options, incremental: true }, { ...sink, onStart });
  await expect(taking).rejects.toMatchObject({ reason: "POSTGRES_REFUSED", metadata: { sqlstate: "55000" } });
  await server.sql("postgres", "alter system reset full_page_writes; select pg_reload_conf()");
});
