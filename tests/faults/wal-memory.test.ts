import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { openBudget } from "../../agent/src/budget.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import { walKey } from "../../agent/src/repository/layout.ts";
import { readDigest } from "../../agent/src/wal/store/read-digest.ts";
import { storeWal } from "../../agent/src/wal/store/store-wal.ts";
import { compressWal, readableOf } from "../../agent/src/wal/store/wal-codec.ts";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";

const unavailable = whyNoCephLab();

test("segments that are claimed and stored at once in memory for two are all stored", async () => {
  if (unavailable !== undefined) throw new Error(unavailable);
  const ceph = await openCephLab();
  const signal = AbortSignal.timeout(60_000);
  const credentials = { write: credentialOf(ceph.owner), read: credentialOf(ceph.owner) };
  await using storage = await openS3(await newBucket(ceph), {
    operationId: "op_1",
    credentials,
    budget: openBudget(40 << 20),
    conditionalPut: false,
    signal,
  });
  const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "1" };
  const plain = randomBytes(1 << 20);
  const sha256 = createHash("sha256").update(plain).digest("hex");
  const names = [1, 2, 3, 4, 5, 6].map((number) => `00000001000000000000000${number}`);
  const store = (name: string) =>
    storeWal(storage, {
      place,
      name,
      plainBytes: 16 << 20,
      compressed: () => compressWal(readableOf(plain), 1),
      sha256: async () => sha256,
      recipients: [],
      known: () => undefined,
      signal,
    });
  await Promise.all(names.map(store));
  for (const name of names) expect(await readDigest(storage, walKey(place, name), signal)).toBe(sha256);
});
