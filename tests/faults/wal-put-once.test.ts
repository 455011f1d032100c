import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { walKey } from "../../agent/src/repository/layout.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import { storeWal } from "../../agent/src/wal/store/store-wal.ts";
import { readDigest } from "../../agent/src/wal/store/read-digest.ts";
import { compressWal, readableOf } from "../../agent/src/wal/store/wal-codec.ts";
import { openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket } from "../support/ceph/s3-place.ts";
import { openFaultProxy } from "../support/faults/fault-proxy.ts";

const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const unavailable = whyNoCephLab();

test.each([
  ["of the usual size", 16 << 20],
  ["too large for one request", 64 << 20],
])(
  "of a segment %s that does not compress, what was stored first stays, however late other bytes come",
  async (_, plainBytes) => {
    if (unavailable !== undefined) throw new Error(unavailable);
    const ceph = await openCephLab();
    const bucket = await newBucket(ceph);
    await using proxy = await openFaultProxy(bucket.endpoint);
    const signal = AbortSignal.timeout(100_000);
    const credentials = { write: credentialOf(ceph.owner), read: credentialOf(ceph.owner) };
    const open = (endpoint: string, operationId: string) =>
      openS3({ ...bucket, endpoint }, { operationId, credentials, conditionalPut: true, signal });
    await using late = await open(proxy.endpoint, "op_late");
    await using prompt = await open(bucket.endpoint, "op_prompt");
    const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "1" };
    const name = "000000010000000000000002";
    const key = walKey(place, name);
    const held = Promise.withResolvers<void>();
    // The request that makes the object is on its way when the other one begins.
    proxy.rule = ({ method, url }) => {
      const isLast =
        (method === "PUT" && !url.includes("partNumber")) || (method === "POST" && url.includes("uploadId="));
      if (!isLast || !url.includes(name) || url.includes("claims")) return undefined;
      held.resolve();
      return { is: "delay", ms: 3_000 };
    };
    const bytes = [randomBytes(10 << 20), randomBytes(10 << 20)] as const;
    const store = (storage: typeof late, plain: Buffer) =>
      storeWal(storage, {
        place,
        name,
        plainBytes,
        compressed: () => compressWal(readableOf(plain), 1),
        sha256: async () => digest(plain),
        recipients: [],
        known: () => undefined,
        signal,
      });
    const [one, other] = await Promise.allSettled([
      store(late, bytes[0]),
      held.promise.then(() => store(prompt, bytes[1])),
    ]);
    const stored = [one, other].map(({ status }) => status === "fulfilled");
    expect(stored.filter(Boolean)).toHaveLength(1);
    const refused = [one, other].find((each) => each.status === "rejected");
    expect(refused?.reason).toMatchObject({ reason: "WAL_CONFLICT" });
    expect(await readDigest(prompt, key, signal)).toBe(digest(bytes[stored[0] ? 0 : 1]));
  },
);
