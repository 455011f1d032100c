// BASE_BACKUP as one command of the protocol: what it gives, how it is slowed down, and each way in which it ends.
import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { fail } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatAddress } from "../../agent/src/postgres/endpoint.ts";
import { type BaseBackupSink, toChecksumFailure } from "../../agent/src/postgres/replication/base-backup.ts";
import { openReplication } from "../../agent/src/postgres/replication/open-replication.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { replicationEndpoint } from "../support/replication/replication-endpoint.ts";
import { runProgram } from "../support/run-program.ts";

const signal = AbortSignal.timeout(180_000);
const options = { label: "it's a 'label' \\ 🌲", checkpoint: "fast" } as const;

interface Taken {
  readonly archives: Map<string, Buffer>;
  readonly manifest: () => Buffer;
  readonly sink: BaseBackupSink;
}

function collect(extra: Partial<BaseBackupSink> = {}): Taken {
  const archives = new Map<string, Buffer>();
  let manifest = Buffer.alloc(0);
  return {
    archives,
    manifest: () => manifest,
    sink: {
      onArchive: async ({ name, content }) => void archives.set(name, await buffer(content)),
      onManifest: async (content) => {
        manifest = await buffer(content);
      },
      ...extra,
    },
  };
}

/** How many of the server's processes send a backup or WAL. */
async function countSenders(server: PostgresServer): Promise<number> {
  return Number(await server.sql("postgres", "select count(*) from pg_stat_activity where backend_type = 'walsender'"));
}

describe.each([15, 17, 18])("PostgreSQL %i", (major) => {
  let server: PostgresServer;
  let space: string;
  const openIt = (over: Partial<{ signal: AbortSignal }> = {}) =>
    openReplication(replicationEndpoint(server), { signal, ...over });

  beforeAll(async () => {
    server = await openPostgresServer({ major, settings: major > 15 ? { summarize_wal: "on" } : {} });
    space = join(server.socketDir, "..", "space");
    await mkdir(space);
    await runProgram("chown", [`${server.owner.uid}:${server.owner.gid}`, space], { env: { PATH: "/usr/bin:/bin" } });
    await server.sql("postgres", `create tablespace extra location '${space}'`);
    await server.sql(
      "postgres",
      "create table big as select id, repeat(md5(id::text), 8) as text from generate_series(1, 40000) id; create table moved tablespace extra as select * from big limit 100",
    );
  });
  afterAll(async () => server?.[Symbol.asyncDispose]());

  test("a backup is what pg_verifybackup accepts, tablespaces and all, and an error leaves the connection usable", async () => {
    await using replication = await openIt();
    const identity = await replication.identify();
    expect(identity).toMatchObject({ timeline: 1, lsn: expect.any(BigInt) as unknown });
    const facts = "select system_identifier from pg_control_system()";
    expect(identity.systemIdentifier).toBe(await server.sql("postgres", facts));
    expect(await replication.show("server_version_num")).toMatch(new RegExp(`^${major}`));
    await expect(replication.show("no_such_setting")).rejects.toMatchObject({ reason: "POSTGRES_REFUSED" });
    await expect(replication.timelineHistory(9)).rejects.toMatchObject({ reason: "POSTGRES_REFUSED" });

    const progress: number[] = [];
    let start: unknown;
    const taken = collect({
      onStart: (said) => {
        start = said;
      },
      onProgress: (bytes) => progress.push(bytes),
    });
    const result = await replication.baseBackup(options, taken.sink);
    const oid = Number(await server.sql("postgres", "select oid from pg_tablespace where spcname = 'extra'"));
    expect(start).toMatchObject({
      timeline: 1,
      tablespaces: [{ oid, location: space, sizeBytes: expect.any(BigInt) as unknown }],
      dataDirectoryBytes: expect.any(BigInt) as unknown,
    });
    expect(result).toMatchObject({ timeline: 1, checksumFailures: 0, damagedFiles: [] });
    expect(result.stopLsn).toBeGreaterThan((start as { lsn: bigint }).lsn);
    expect([...taken.archives.keys()]).toEqual([`${oid}.tar`, "base.tar"]);
    expect(progress.at(-1)).toBeGreaterThan(10 * 1024 * 1024);
    expect(progress).toEqual(progress.toSorted((a, b) => a - b));

    const folder = join(server.socketDir, "..", randomUUID());
    await mkdir(join(folder, "pg_tblspc", String(oid)), { recursive: true });
    for (const [name, bytes] of taken.archives) await writeFile(join(folder, name), bytes);
    await writeFile(join(folder, "backup_manifest"), taken.manifest());
    const verify = `cd '${folder}' && tar xf base.tar && rm -rf pg_tblspc/${oid} && mkdir pg_tblspc/${oid} &&
      tar xf ${oid}.tar -C pg_tblspc/${oid} && rm *.tar && '${server.binDir}/pg_verifybackup' --no-parse-wal .`;
    const verified = await runProgram("sh", ["-c", verify], { env: { PATH: "/usr/bin:/bin" } });
    expect(verified).toMatchObject({ code: 0 });
    expect(await readFile(join(folder, "backup_label"), "utf8")).toContain(`LABEL: ${options.label}\n`);
    expect(taken.manifest().toString()).toContain('"Checksum-Algorithm": "CRC32C"');
    await rm(folder, { recursive: true });
  });

  test("the server compresses, by several threads, and says when it cannot", async () => {
    await using replication = await openIt();
    const taken = collect();
    const serverCompression = { codec: "zstd", level: 3, workers: 2 } as const;
    await replication.baseBackup({ ...options, serverCompression }, taken.sink);
    expect([...taken.archives.keys()].map((name) => name.replace(/^\d+/, "oid"))).toEqual([
      "oid.tar.zst",
      "base.tar.zst",
    ]);
    expect(taken.archives.get("base.tar.zst")?.readUInt32LE(0)).toBe(0xfd2fb528);
    const wrong = { codec: "zstd", level: 99 } as const;
    await expect(replication.baseBackup({ ...options, serverCompression: wrong }, taken.sink)).rejects.toMatchObject({
      reason: "SERVER_COMPRESSION_MISSING",
    });
    expect((await replication.identify()).timeline).toBe(1);
  });

  test("a consumer that does not read stops the server, and bounded memory holds what came before", async () => {
    await using replication = await openIt();
    const held = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<Readable>();
    let done = 0;
    const bytes: Record<string, number> = {};
    const running = replication.baseBackup(options, {
      onArchive: async ({ name, content }) => {
        if (name === "base.tar") {
          reached.resolve(content);
          await held.promise;
        }
        bytes[name] = (await buffer(content)).length;
      },
      onManifest: async (content) => void (await buffer(content)),
      onProgress: (read) => {
        done = read;
      },
    });
    const content = await reached.promise;
    await expect.poll(() => content.readableLength).toBeGreaterThanOrEqual(1024 * 1024);
    // What the kernel's buffers take is the most that the server can be ahead.
    let before = -1;
    while (before !== done) {
      before = done;
      await delay(50);
    }
    expect(content.readableLength).toBeLessThan(2 * 1024 * 1024);
    expect(done).toBeLessThan(16 * 1024 * 1024);
    held.resolve();
    await running;
    expect(bytes["base.tar"]).toBeGreaterThan(20 * 1024 * 1024);
  });

  test("what the sink fails with is what the backup fails with, and the server's process ends", async () => {
    await using replication = await openIt();
    const refusing = collect({ onArchive: async () => fail("REPOSITORY_FULL", "no room") });
    await expect(replication.baseBackup(options, refusing.sink)).rejects.toMatchObject({ reason: "REPOSITORY_FULL" });
    await using another = await openIt();
    const lazy = collect({ onArchive: async () => {} });
    await expect(another.baseBackup(options, lazy.sink)).rejects.toThrow("left off before its end");
    await expect.poll(() => countSenders(server)).toBe(0);
  });

  test.each(["a stalled reader", "a spread checkpoint"])(
    "aborting during %s ends the backup and the server's process within two seconds",
    async (phase) => {
      const controller = new AbortController();
      await using replication = await openIt({ signal: controller.signal });
      const isSpread = phase !== "a stalled reader";
      if (isSpread)
        await server.sql(
          "postgres",
          "alter system set checkpoint_timeout = '1h'; select pg_reload_conf(); update big set text = text || 'x' where id <= 1000",
        );
      const began = Promise.withResolvers<void>();
      const running = replication.baseBackup(
        { ...options, checkpoint: isSpread ? "spread" : "fast" },
        collect({
          onArchive: async () => {
            began.resolve();
            await new Promise(() => {});
          },
        }).sink,
      );
      const outcome = running.catch((error: unknown) => error);
      if (isSpread) {
        const waits =
          "select count(*) from pg_stat_activity where backend_type = 'walsender' and wait_event ~ '^Checkpoint'";
        while ((await server.sql("postgres", waits)) !== "1") await delay(10);
      } else await began.promise;
      const reason = new Error("enough");
      const abortedAt = performance.now();
      controller.abort(reason);
      // A consumer that never settles is waited for; nobody reads yet during the checkpoint.
      const told = isSpread ? await outcome : reason;
      expect(told).toBe(reason);
      await expect.poll(() => countSenders(server)).toBe(0);
      expect(performance.now() - abortedAt).toBeLessThan(20_000);
    },
  );

  test.each(major >= 17 ? [major] : [])(
    "an incremental is taken against an uploaded manifest, and refused with its reason",
    async () => {
      // Else hint bits that reads set would change every page after the full backup.
      await server.sql("postgres", "vacuum (freeze) big");
      await using replication = await openIt();
      const full = collect();
      await replication.baseBackup(options, full.sink);
      await server.sql("postgres", "update big set text = 'new' where id = 7");
      async function* inPieces() {
        for (let at = 0; at < full.manifest().length; at += 1000) yield full.manifest().subarray(at, at + 1000);
      }
      await replication.uploadManifest(inPieces());
      const incremental = collect();
      await replication.baseBackup({ ...options, incremental: true }, incremental.sink);
      const size = (taken: Taken) => taken.archives.get("base.tar")?.length ?? 0;
      expect(size(incremental)).toBeLessThan(size(full) / 2);

      await using another = await openIt();
      const none = another.baseBackup({ ...options, incremental: true }, collect().sink);
      await expect(none).rejects.toMatchObject({ reason: "INCREMENTAL_REFUSED" });
      async function* broken() {
        yield full.manifest().subarray(0, 100);
        throw new Error("the file is gone");
      }
      await expect(another.uploadManifest(broken())).rejects.toThrow("the file is gone");
      async function* damaged() {
        yield full.manifest().subarray(0, 100);
      }
      await expect(another.uploadManifest(damaged())).rejects.toMatchObject({ reason: "INCREMENTAL_REFUSED" });
      expect((await another.identify()).timeline).toBe(1);
    },
  );
});

test("pages that fail their checksums are a result beside a whole backup", async () => {
  await using server = await openPostgresServer({ major: 17 });
  await server.stop();
  const enabled = await runProgram(
    "setpriv",
    [
      `--reuid=${server.owner.uid}`,
      `--regid=${server.owner.gid}`,
      "--clear-groups",
      `${server.binDir}/pg_checksums`,
      "--enable",
      "--pgdata",
      server.dataDir,
    ],
    { env: {} },
  );
  expect(enabled).toMatchObject({ code: 0 });
  await server.start();
  await server.sql("postgres", "create table t as select generate_series(1, 20000) as id; checkpoint");
  const file = await server.sql("postgres", "select pg_relation_filepath('t')");
  for (const pages of [1, 3]) {
    const handle = await open(join(server.dataDir, file), "r+");
    for (let page = 0; page < pages; page++) await handle.write(Buffer.from("damage"), 0, 6, page * 8192 + 4000);
    await handle.close();
    await using replication = await openReplication(replicationEndpoint(server), { signal });
    const taken = collect();
    const result = await replication.baseBackup(options, taken.sink);
    expect(result).toMatchObject({ checksumFailures: pages, damagedFiles: [expect.stringContaining(file)] });
    expect(JSON.parse(taken.manifest().toString())).toMatchObject({ "PostgreSQL-Backup-Manifest-Version": 2 });
    const failure = toChecksumFailure(result, replication.endpoint);
    expect(failure).toMatchObject({
      reason: "BACKUP_CHECKSUM_FAILED",
      hint: expect.stringContaining("--accept-corrupt") as unknown,
    });
    expect(failure.message).toContain(formatAddress(replication.endpoint));
    expect(await replication.show("data_checksums")).toBe("on");
  }
});

test("a server that is stopped at once during a backup ends it as out of reach", async () => {
  await using server = await openPostgresServer({ major: 18 });
  await using replication = await openReplication(replicationEndpoint(server), { signal });
  const digest = createHash("sha256");
  const running = replication.baseBackup(options, {
    onArchive: async ({ content }) => {
      await server.stop("immediate");
      for await (const chunk of content) digest.update(chunk as Buffer);
    },
    onManifest: async (content) => void (await buffer(content)),
  });
  await expect(running).rejects.toMatchObject({ reason: "CLUSTER_UNREACHABLE" });
  await expect(replication.identify()).rejects.toMatchObject({ reason: "CLUSTER_UNREACHABLE" });
});
