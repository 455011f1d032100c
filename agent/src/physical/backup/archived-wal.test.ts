import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { zstdCompressSync } from "node:zlib";
import { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, expect, test } from "vitest";
import { walKey } from "../../repository/layout.ts";
import { openFilesystem } from "../../storage/filesystem.ts";
import type { Storage } from "../../storage/storage.ts";
import { awaitArchivedWal, type NeededWal } from "./archived-wal.ts";

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

/** WAL of an archive of its own, from within the second segment to within the third. */
function needed(changes: Partial<NeededWal> = {}): NeededWal {
  count++;
  return {
    place: { clusterId: `cls_${count}`, systemIdentifier: "7000" },
    clusterName: "shop",
    timeline: 2,
    startLsn: 0x2000028n,
    stopLsn: 0x3000120n,
    segmentBytes: 16n << 20n,
    mayBePartial: false,
    waitMs: 10,
    signal,
    onWait: () => {},
    ...changes,
  };
}

async function store({ place }: NeededWal, ...names: string[]): Promise<void> {
  for (const name of names)
    await storage.put(walKey(place, name), Readable.from([zstdCompressSync(Buffer.from(name))]), {
      signal,
      ifAbsent: true,
    });
}

const history = "00000002.history";
const [second, third] = ["000000020000000000000002", "000000020000000000000003"];
const part = (end: string) => `${third}.partial.${end.padStart(16, "0")}`;
const keys = async (wal: NeededWal) =>
  (await awaitArchivedWal(storage, wal)).map(({ objects }) => objects[0]?.key.split("/").at(-1));

test("everything of the timeline has to be there, its history and each segment; the first that is not is named", async () => {
  const wal = needed();
  await store(wal, "000000010000000000000002", "000000010000000000000003", part("3000120"));
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
  await store(wal, history, second, part("3000100"));
  await expect(keys(wal)).rejects.toMatchObject({ metadata: { segment: third } });
  await store(wal, part("3000120"), part("3000A00"));
  expect(await keys(wal)).toEqual([history, second, part("3000A00")]);
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
  const wal = needed({ timeline: 1, startLsn: 0x3000028n });
  const name = third.replace("00000002", "00000001");
  await storage.put(walKey(wal.place, name), Readable.from([Buffer.alloc(0)]), { signal, ifAbsent: true });
  await expect(awaitArchivedWal(storage, wal)).rejects.toMatchObject({ reason: "CONTENT_UNREADABLE" });
  const stop = new AbortController();
  const waiting = awaitArchivedWal(
    storage,
    needed({ waitMs: 30_000, signal: stop.signal, onWait: () => stop.abort(new Failure("CANCELLED", "enough")) }),
  );
  await expect(waiting).rejects.toMatchObject({ reason: "CANCELLED" });
});
