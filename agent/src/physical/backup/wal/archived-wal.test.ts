import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { zstdCompressSync } from "node:zlib";
import { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openWalWriter } from "../../../../../tests/support/wal/wal-writer.ts";
import { walKey } from "../../../repository/layout.ts";
import { openFilesystem } from "../../../storage/filesystem.ts";
import type { Storage } from "../../../storage/storage.ts";
import { awaitArchivedWal, type NeededWal } from "./archived-wal.ts";
import { openSegmentDigest } from "../../../postgres/wal/segment-digest.ts";

const signal = AbortSignal.timeout(60_000);
let folder: string;
let storage: Storage;
let count = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-archived-wal-"));
  storage = await openFilesystem(folder, "op_test");
});
afterAll(async () => {
  await storage[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const segmentBytes = 1n << 20n;
const baseLsn = 2n * segmentBytes;
const systemIdentifier = "7000";
const names = ["000000020000000000000002", "000000020000000000000003"];
const [second = "", third = ""] = names;

/** WAL from the second segment to within the third, the end of a backup that began at `startLsn`. */
function written({ startLsn = baseLsn + 40n, system = systemIdentifier, first = 1000 } = {}) {
  const writer = openWalWriter({ systemIdentifier: system, timeline: 2, segmentBytes, baseLsn });
  writer.add(first);
  while (writer.at < Number(segmentBytes) + 50_000) writer.add(1000);
  writer.endBackup(startLsn);
  return { bytes: writer.bytes, stopLsn: baseLsn + BigInt(writer.at) };
}
const own = written();

/** WAL of an archive of its own, from within the second segment to within the third. */
function needed(changes: Partial<NeededWal> = {}): NeededWal {
  count++;
  return {
    place: { clusterId: `cls_${count}`, systemIdentifier },
    clusterName: "shop",
    timeline: 2,
    startLsn: baseLsn + 40n,
    stopLsn: own.stopLsn,
    segmentBytes,
    mayBePartial: false,
    end: { is: "backupEnd", startLsn: baseLsn + 40n },
    waitMs: 10,
    signal,
    onWait: () => {},
    ...changes,
  };
}

/** What is stored under a name, of this WAL. */
function contentOf(name: string, bytes: Buffer): Buffer {
  if (name.endsWith(".history")) return Buffer.from("1\t0/1000000\tpromoted\n");
  const at = name.startsWith(second) ? 0 : Number(segmentBytes);
  return bytes.subarray(at, at + Number(segmentBytes));
}

async function store({ place }: NeededWal, ...stored: string[]): Promise<void> {
  for (const name of stored) await put(place, name, zstdCompressSync(contentOf(name, own.bytes)));
}

async function put(place: NeededWal["place"], name: string, bytes: Buffer): Promise<void> {
  await storage.put(walKey(place, name), Readable.from([bytes]), { signal, ifAbsent: true });
}

const history = "00000002.history";
const part = (endLsn: bigint) => `${third}.partial.${endLsn.toString(16).toUpperCase().padStart(16, "0")}`;
const keys = async (wal: NeededWal) =>
  (await awaitArchivedWal(storage, wal)).map(({ objects }) => objects[0]?.key.split("/").at(-1));

test("everything of the timeline has to be there, its history and each segment; the first that is not is named", async () => {
  const wal = needed();
  await store(wal, "000000010000000000000002", "000000010000000000000003", part(own.stopLsn));
  for (const name of [history, second, third]) {
    await expect(keys(wal)).rejects.toMatchObject({ reason: "WAL_MISSING", metadata: { segment: name } });
    await store(wal, name);
  }
  expect(await keys(wal)).toEqual([history, second, third]);
  const [, file] = await awaitArchivedWal(storage, wal);
  expect(file).toMatchObject({
    codec: "zstd",
    encrypted: false,
    objects: [{ key: `00000002/${second.slice(0, 16)}/${second}` }],
  });
});

test("of the last segment the longest part will do where nobody can end it, when it reaches the end", async () => {
  const wal = needed({ mayBePartial: true });
  await store(wal, history, second, part(own.stopLsn - 8n));
  await expect(keys(wal)).rejects.toMatchObject({ metadata: { segment: third } });
  await store(wal, part(own.stopLsn), part(own.stopLsn + 800n));
  expect(await keys(wal)).toEqual([history, second, part(own.stopLsn + 800n)]);
  await store(wal, third);
  expect(await keys(wal)).toEqual([history, second, third]);
});

test("what comes meanwhile ends the wait, and a storage that is away for a while does not", async () => {
  const waited: string[] = [];
  let failures = 0;
  const away: Storage = {
    ...storage,
    get: async (key, options) => {
      if (key.endsWith(third) && failures++ < 2) throw new Failure("REPOSITORY_UNREACHABLE", "it is away");
      return await storage.get(key, options);
    },
  };
  const wal = needed({ waitMs: 30_000, onWait: (name) => waited.push(name) });
  await store(wal, history, third);
  const waiting = awaitArchivedWal(away, wal);
  await expect.poll(() => waited).toEqual([second]);
  await store(wal, second);
  expect((await waiting).length).toBe(3);
  expect(waited).toEqual([second, third]);
  const gone: Storage = { ...storage, get: () => Promise.reject(new Failure("REPOSITORY_UNREACHABLE", "it is away")) };
  await expect(awaitArchivedWal(gone, needed())).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
});

test("a file that is no WAL as it is stored is not taken for some, and an abort ends the wait", async () => {
  const wal = needed({ timeline: 1 });
  await put(wal.place, second.replace("00000002", "00000001"), Buffer.alloc(0));
  await expect(awaitArchivedWal(storage, wal)).rejects.toMatchObject({ reason: "CONTENT_UNREADABLE" });
  const stop = new AbortController();
  const waiting = awaitArchivedWal(
    storage,
    needed({ waitMs: 30_000, signal: stop.signal, onWait: () => stop.abort(new Failure("CANCELLED", "enough")) }),
  );
  await expect(waiting).rejects.toMatchObject({ reason: "CANCELLED" });
});

test("segments that are damaged, or cut, or another server's, are no proof, and it is said which", async () => {
  const good = contentOf(second, own.bytes);
  const flipped = Buffer.from(good);
  flipped[500_000] = (flipped[500_000] ?? 0) ^ 1;
  const broken = zstdCompressSync(good);
  broken[broken.length >> 1] = (broken[broken.length >> 1] ?? 0) ^ 1;
  const foreign = contentOf(second, written({ system: "7001" }).bytes);
  const bad = [zstdCompressSync(flipped), broken, zstdCompressSync(good.subarray(0, -8192)), zstdCompressSync(foreign)];
  for (const [index, bytes] of bad.entries()) {
    const wal = needed();
    await store(wal, history, third);
    await put(wal.place, second, bytes);
    await expect(awaitArchivedWal(storage, wal), `way ${index}`).rejects.toMatchObject({
      reason: "CONTENT_UNREADABLE",
      metadata: { segment: second },
      hint: expect.stringContaining("coppice wal verify shop") as string,
    });
  }
});

test("WAL of another life of the server is not the backup's, though its names are and each of its records is whole", async () => {
  const place = (bytes: Buffer) => async (wal: NeededWal) => {
    await store(wal, history);
    for (const name of names) await put(wal.place, name, zstdCompressSync(contentOf(name, bytes)));
    return await awaitArchivedWal(storage, wal).then(
      () => "taken",
      (error: unknown) => error,
    );
  };
  const other = written({ startLsn: 0x1234n });
  expect(other.stopLsn).toBe(own.stopLsn);
  expect(await place(own.bytes)(needed())).toBe("taken");
  expect(await place(other.bytes)(needed())).toMatchObject({ reason: "WAL_FOREIGN" });
  // A standby writes no such record: it is told by its bytes, those up to the end.
  const digest = openSegmentDigest({ bytes: own.stopLsn - baseLsn - segmentBytes, segmentBytes });
  digest.take(contentOf(third, own.bytes));
  const end = { is: "bytes", sha256: digest.finish() ?? "" } as const;
  const longer = Buffer.from(own.bytes);
  longer.fill(7, Number(own.stopLsn - baseLsn));
  expect(await place(longer)(needed({ end }))).toBe("taken");
  expect(await place(other.bytes)(needed({ end }))).toMatchObject({
    reason: "WAL_FOREIGN",
    hint: expect.stringContaining("coppice cluster remove-instance shop HOST") as string,
  });
  // A segment of one life followed by one of another.
  const wal = needed();
  await store(wal, history, second);
  await put(wal.place, third, zstdCompressSync(contentOf(third, written({ first: 1400 }).bytes)));
  await expect(awaitArchivedWal(storage, wal)).rejects.toMatchObject({ metadata: { segment: third } });
});

test("trouble of the storage in the middle of a segment begins the look into it anew", async () => {
  const wal = needed({ waitMs: 30_000 });
  await store(wal, history, second, third);
  let cuts = 0;
  const cutting: Storage = {
    ...storage,
    get: async (key, options) => {
      const whole = await storage.get(key, options);
      if (!key.endsWith(third) || cuts++ > 0) return whole;
      return Readable.from(
        (async function* () {
          for await (const chunk of whole as AsyncIterable<Buffer>) {
            yield chunk.subarray(0, chunk.length >> 1);
            throw new Failure("REPOSITORY_UNREACHABLE", "it is away");
          }
        })(),
        { objectMode: false },
      );
    },
  };
  expect(await awaitArchivedWal(cutting, wal)).toHaveLength(3);
  expect(cuts).toBe(2);
});
