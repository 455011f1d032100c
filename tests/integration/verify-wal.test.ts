// Archived WAL of real servers, read again: whole, and with each kind of damage that a store can do to it.
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";
import { openLog } from "@coppice/proto/kit/log";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openBudget } from "../../agent/src/budget.ts";
import { walKey } from "../../agent/src/repository/layout.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import { seeWalEnd } from "../../agent/src/wal/fetch/see-wal-end.ts";
import { runArchive } from "../../agent/src/wal/receive/archive.ts";
import type { WalExtent } from "../../agent/src/wal/store/extent.ts";
import { listExtents } from "../../agent/src/wal/store/list-extents.ts";
import { verifyWal } from "../../agent/src/wal/verify/verify-wal.ts";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";
import { waitFor } from "../support/installation.ts";
import { openPostgresServer, type PostgresServer } from "../support/postgres-servers.ts";
import { type ArchiveLab, openArchiveLab } from "../support/wal/archive-lab.ts";

const [compress, decompress] = [promisify(zstdCompress), promisify(zstdDecompress)];
const segmentBytes = 16n << 20n;

describe.each([
  { major: 15, isEncrypted: false },
  { major: 18, isEncrypted: true },
])("PostgreSQL $major, encrypted $isEncrypted", ({ major, isEncrypted }) => {
  const stack = new AsyncDisposableStack();
  let server: PostgresServer;
  let lab: ArchiveLab;
  let key: AgeKey;
  let told: WalExtent[] = [];
  let lastCommit = 0n;

  beforeAll(async () => {
    key = await makeAgeKey();
    server = stack.use(await openPostgresServer({ major }));
    lab = stack.use(await openArchiveLab(server, { maxAgeSeconds: 1, recipients: isEncrypted ? [key.recipient] : [] }));
    const ending = new AbortController();
    const running = runArchive({
      archive: lab.archive,
      secret: lab.secret,
      folder: join(lab.folder, "state"),
      clientFiles: { home: "/nonexistent" },
      budget: openBudget(64 << 20),
      log: openLog({ level: "error", name: "test" }),
      signal: ending.signal,
    });
    let storedLsn = 0n;
    const isStored = (lsn: string) =>
      waitFor(`WAL is stored up to ${lsn}`, () => {
        const text = running.report()?.storedLsn ?? "";
        if (text !== "") storedLsn = parseLsn(text);
        return Promise.resolve(storedLsn >= parseLsn(lsn));
      });
    await isStored(await server.sql("postgres", "select pg_switch_wal()"));
    // More than a segment without a switch, so that records lie across the border.
    await server.sql(
      "postgres",
      "create table big as select i as id, repeat(md5(i::text), 40) as text from generate_series(1, 15000) i",
    );
    await isStored(await server.sql("postgres", "select pg_switch_wal()"));
    await server.sql("postgres", "insert into big values (0, 'in a segment that is not full')");
    const flushed = await server.sql("postgres", "select pg_current_wal_flush_lsn()");
    lastCommit = parseLsn(flushed);
    await isStored(flushed);
    ending.abort();
    await running.ended;
    told = await listExtents(lab.storage, { place: lab.archive, segmentBytes, signal: AbortSignal.timeout(10_000) });
  });
  afterAll(() => stack.disposeAsync());

  const verify = async (mayDecrypt = isEncrypted) => {
    const signal = AbortSignal.timeout(60_000);
    const identities = mayDecrypt ? key.identityFile : undefined;
    const wal = { place: lab.archive, segmentBytes, expected: told, identities, signal, onProgress() {} };
    await using storage = await openFilesystem(join(lab.folder, "repository"), "op_verify");
    return await verifyWal(storage, wal);
  };
  const fileOf = (name: string) => join(lab.folder, "repository", walKey(lab.archive, name));
  const wholeSegments = async () => {
    const names: string[] = [];
    for await (const { key: at } of lab.storage.list("", AbortSignal.timeout(10_000))) {
      const name = at.slice(at.lastIndexOf("/") + 1);
      if (/^[0-9A-F]{24}$/.test(name)) names.push(name);
    }
    return names.toSorted();
  };

  test("all of it is sound, every record of every segment, and what was stored is there", async () => {
    const verified = await verify();
    expect(verified.problems).toEqual([]);
    expect(verified.sound).toEqual(told);
    expect(verified.undecoded).toBe(0);
    expect(verified.records).toBeGreaterThan(10_000n);
    expect(verified.plainBytes % segmentBytes).toBe(0n);
    expect(verified.objects).toBe(Number(verified.plainBytes / segmentBytes));
    if (!isEncrypted) return;
    const blind = await verify(false);
    expect(blind).toMatchObject({ problems: [], undecoded: verified.objects, records: 0n, sound: told });
    expect(blind.bytes).toBe(verified.bytes);
  });

  const seeEnd = async (endLsn: bigint, last = 1) => {
    await using storage = await openFilesystem(join(lab.folder, "repository"), "op_see");
    return await seeWalEnd(storage, {
      place: lab.archive,
      segmentBytes,
      startLsn: told[0]?.startLsn ?? 0n,
      timelines: { first: 1, last },
      endLsn,
      isToEnd: true,
      identities: isEncrypted ? key.identityFile : undefined,
      signal: AbortSignal.timeout(60_000),
    });
  };

  test("the end of its last whole record is where recovery of all of it ends, and damage before is no end", async () => {
    expect(formatLsn(await seeEnd(lastCommit))).toBe(formatLsn(lastCommit));
    const shorter = await seeEnd(lastCommit - 16n);
    expect(shorter).toBeLessThan(lastCommit);
    expect(formatLsn(await seeEnd(shorter))).toBe(formatLsn(shorter));
    const [name = ""] = (await wholeSegments()).slice(-1);
    const file = fileOf(name);
    const good = await readFile(file);
    const plain = isEncrypted ? Buffer.from(good) : await decompress(good);
    plain.writeUInt8(plain.readUInt8(100_000) ^ 4, 100_000);
    try {
      await rm(file);
      await writeFile(file, isEncrypted ? plain : await compress(plain));
      await expect(seeEnd(lastCommit)).rejects.toMatchObject({ reason: "CONTENT_UNREADABLE" });
    } finally {
      await writeFile(file, good);
    }
    await seeEnd(lastCommit);
  });

  test("a timeline without its history is no whole archive, and cannot be followed", async () => {
    await expect(seeEnd(lastCommit, 2)).rejects.toThrow("00000002.history, without which no server follows");
    const endLsn = told.at(-1)?.endLsn ?? 0n;
    const name = segmentName(2, endLsn - 1n, segmentBytes);
    const copied = (await wholeSegments())[0] ?? "";
    await writeFile(fileOf(name), await readFile(fileOf(copied))).catch(async () => {
      await mkdir(dirname(fileOf(name)), { recursive: true });
      await writeFile(fileOf(name), await readFile(fileOf(copied)));
    });
    const { problems } = await verify();
    expect(problems.map(({ message }) => message)).toContain(
      "00000002.history is missing: no server goes over to timeline 2 from a backup of an older one",
    );
    await rm(fileOf(name));
  });

  test("an object that is gone, cut, flipped or replaced is named, with what is lost by it and what is not", async () => {
    const names = await wholeSegments();
    expect(names.length).toBeGreaterThanOrEqual(3);
    const [name = ""] = names.slice(1);
    const file = fileOf(name);
    const good = await readFile(file);
    const startLsn = BigInt(Number.parseInt(name.slice(16), 16)) * segmentBytes;
    const endLsn = startLsn + segmentBytes;
    const run = { timeline: 1, startLsn, endLsn };
    const around = told.flatMap((extent) => [
      { ...extent, endLsn: startLsn },
      { ...extent, startLsn: endLsn },
    ]);

    const flipped = Buffer.from(good);
    flipped.writeUInt8(flipped.readUInt8(good.length >> 1) ^ 1, good.length >> 1);
    const other = await readFile(fileOf(names[2] ?? ""));
    const damaged: [string, Buffer, string][] = [
      ["cut", good.subarray(0, good.length - 1000), "CONTENT_UNREADABLE"],
      ["flipped", flipped, "CONTENT_UNREADABLE"],
      ["empty", Buffer.alloc(0), "CONTENT_UNREADABLE"],
      ["another segment", other, "CONTENT_UNREADABLE"],
    ];
    if (!isEncrypted) {
      // What a bad memory does before the bytes are compressed: no checksum but that of the record knows of it.
      const plain = await decompress(good);
      plain.writeUInt8(plain.readUInt8(1_000_000) ^ 4, 1_000_000);
      damaged.push(["flipped before it was stored", await compress(plain), "CONTENT_UNREADABLE"]);
      damaged.push(["shorter than a segment", await compress(plain.subarray(0, 900_000)), "CONTENT_UNREADABLE"]);
    }
    for (const [how, bytes, reason] of isEncrypted ? damaged.slice(1, 2) : damaged) {
      await rm(file);
      await writeFile(file, bytes);
      const verified = await verify();
      expect(verified.problems, how).toMatchObject([{ key: walKey(lab.archive, name), reason, run }]);
      expect(verified.sound, how).toEqual(around);
    }
    await rm(file);
    // What was stored of it before it was full, on a slow machine.
    const parts = (await readdir(dirname(file))).filter((each) => each.startsWith(`${name}.partial`));
    for (const part of parts) await rm(join(dirname(file), part));
    const gone = await verify();
    expect(gone.problems).toMatchObject([
      {
        key: "",
        reason: "OBJECT_MISSING",
        run,
        message: `WAL from ${formatLsn(startLsn)} to ${formatLsn(endLsn)} on timeline 1 was stored, and no object holds it`,
      },
    ]);
    expect(gone.sound).toEqual(around);
    await writeFile(file, good);
    expect((await verify()).problems).toEqual([]);
  });

  test("WAL of another server under the right name is no WAL of this one", async () => {
    const elsewhere = lab.archive.systemIdentifier.replace(/.$/, (digit) => String((Number(digit) + 1) % 10));
    const root = (system: string) => join(lab.folder, "repository", lab.archive.clusterId, "wal", system);
    await rename(root(lab.archive.systemIdentifier), root(elsewhere));
    await using storage = await openFilesystem(join(lab.folder, "repository"), "op_verify");
    const { problems, sound } = await verifyWal(storage, {
      place: { clusterId: lab.archive.clusterId, systemIdentifier: elsewhere },
      segmentBytes,
      expected: [],
      identities: isEncrypted ? key.identityFile : undefined,
      signal: AbortSignal.timeout(60_000),
      onProgress() {},
    });
    expect(sound).toEqual([]);
    for (const { message } of problems) expect(message).toContain("is of the server with system identifier");
    await rename(root(elsewhere), root(lab.archive.systemIdentifier));
  });
});
