import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openFilesystem } from "../../storage/filesystem.ts";
import { openArchiveIndex } from "../store/archive-index.ts";
import { storeWal } from "../store/store-wal.ts";
import { compressWal, readableOf } from "../store/wal-codec.ts";
import { archivedEnd } from "./archived-end.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-archived-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "7312345678901234567" };
const segmentBytes = 1n << 20n;

test("what was archived last is known by the index, else by reading it, and is not known where it is not there", async () => {
  const signal = AbortSignal.timeout(30_000);
  const storage = await openFilesystem(folder, "op_test");
  await using index = await openArchiveIndex(join(folder, "index"));
  const where = { index, storage, place, segmentBytes, signal };
  const bytes = randomBytes(Number(segmentBytes));
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const start = { timeline: 1, lsn: 3n * segmentBytes, archivedLsn: 4n * segmentBytes };
  expect(await archivedEnd(start, where)).toBeUndefined();
  const name = segmentName(1, start.lsn, segmentBytes);
  await storeWal(storage, {
    place,
    name,
    plainBytes: bytes.length,
    compressed: () => compressWal(readableOf(bytes), 1),
    sha256: async () => sha256,
    recipients: [],
    known: () => undefined,
    signal,
  });
  expect(await archivedEnd(start, where)).toEqual({ endLsn: start.archivedLsn, sha256 });
  const recorded = "0a".repeat(32);
  await index.add({ name, sha256: recorded, run: { timeline: 1, startLsn: start.lsn, endLsn: start.archivedLsn } });
  expect(await archivedEnd(start, where)).toEqual({ endLsn: start.archivedLsn, sha256: recorded });
  // Nothing of it comes once more.
  expect(await archivedEnd({ ...start, lsn: start.archivedLsn }, where)).toBeUndefined();
});
