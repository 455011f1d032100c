import { createHash, randomBytes } from "node:crypto";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { openBudget, usualBudgetBytes } from "../../agent/src/budget.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { walKey } from "../../agent/src/repository/layout.ts";
import { readDigest } from "../../agent/src/wal/store/read-digest.ts";
import { storeWal } from "../../agent/src/wal/store/store-wal.ts";
import { compressWal, readableOf } from "../../agent/src/wal/store/wal-codec.ts";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";

const unavailable = whyNoCephLab();

const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "1" };
const plain = randomBytes(1 << 20);
const sha256 = createHash("sha256").update(plain).digest("hex");
const segment = (number: number) => `00000001000000000000000${number}`;

function store(storage: Storage, name: string, signal: AbortSignal): Promise<void> {
  return storeWal(storage, {
    place,
    name,
    plainBytes: 16 << 20,
    compressed: () => compressWal(readableOf(plain), 1),
    sha256: async () => sha256,
    recipients: [],
    known: () => undefined,
    signal,
  });
}

async function open(totalBytes: number, signal: AbortSignal): Promise<Storage> {
  const ceph = await openCephLab();
  const credentials = { write: credentialOf(ceph.owner), read: credentialOf(ceph.owner) };
  return await openS3(await newBucket(ceph), {
    operationId: "op_1",
    credentials,
    budget: openBudget(totalBytes),
    conditionalPut: false,
    signal,
  });
}

test("segments that are claimed and stored at once in memory for two are all stored", async () => {
  if (unavailable !== undefined) throw new Error(unavailable);
  const signal = AbortSignal.timeout(60_000);
  await using storage = await open(40 << 20, signal);
  const names = [1, 2, 3, 4, 5, 6].map(segment);
  await Promise.all(names.map((name) => store(storage, name, signal)));
  for (const name of names) expect(await readDigest(storage, walKey(place, name), signal)).toBe(sha256);
});

test("segments are stored while a dozen dumps wait for a lock, before their first byte and after it", async () => {
  if (unavailable !== undefined) throw new Error(unavailable);
  const signal = AbortSignal.timeout(60_000);
  await using storage = await open(usualBudgetBytes, signal);
  const dumps = Array.from({ length: 12 }, () => new PassThrough());
  const putting = Promise.allSettled(
    dumps.map((dump, index) => storage.put(`dump/${index}`, dump, { signal, ifAbsent: true })),
  );
  await store(storage, segment(1), signal);
  for (const dump of dumps) dump.write("begun ");
  await store(storage, segment(2), signal);
  for (const dump of dumps) dump.end("and ended");
  expect(await putting).toEqual(dumps.map(() => ({ status: "fulfilled", value: { sizeBytes: 15 } })));
  for (const name of [1, 2].map(segment)) expect(await readDigest(storage, walKey(place, name), signal)).toBe(sha256);
});
