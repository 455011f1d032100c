// One name of an archive, several writers: at most one of them stores, and it can be told later what is there.
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { walClaimPrefix, walKey } from "../../agent/src/repository/layout.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { storeWal } from "../../agent/src/wal/store/store-wal.ts";
import { compressWal, decodeWal, readableOf } from "../../agent/src/wal/store/wal-codec.ts";
import { type AgeKey, makeAgeKey } from "../support/dumps/age-key.ts";

const place = { clusterId: "cls_00000000000000000000000001", systemIdentifier: "7312345678901234567" };
const name = "000000020000000000000003";
const [ours, theirs] = [randomBytes(1 << 20), randomBytes(1 << 20)];
let signal: AbortSignal;
let key: AgeKey;
let folder: string;
let storage: Storage;

beforeAll(async () => {
  key = await makeAgeKey();
});
beforeEach(async () => {
  signal = AbortSignal.timeout(60_000);
  if (folder) await rm(folder, { recursive: true });
  folder = await mkdtemp(join(tmpdir(), "coppice-claims-"));
  storage = await openFilesystem(folder, "op_test");
});
afterAll(() => rm(folder, { recursive: true }));

/** As a storage whose puts keep no condition: it looks, and then it puts. */
const unconditional = (): Storage => ({
  ...storage,
  capabilities: { ...storage.capabilities, putIfAbsent: false },
  async put(at, body, options) {
    const bytes = await buffer(body);
    if (options.ifAbsent && (await storage.stat(at, signal)))
      throw new Failure("OBJECT_EXISTS", `${at} exists already`);
    return await storage.put(at, readableOf(bytes), { ...options, ifAbsent: false });
  },
});

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

/** Stores as an agent without an index. */
async function put(into: Storage, bytes: Buffer, recipients: string[]): Promise<"stored" | "refused"> {
  try {
    const compressed = () => compressWal(readableOf(bytes), 1);
    await storeWal(into, {
      place,
      name,
      plainBytes: bytes.length,
      compressed,
      sha256: async () => sha256(bytes),
      recipients,
      known: () => undefined,
      signal,
    });
    return "stored";
  } catch (error) {
    if (!isFailure(error, "WAL_CONFLICT")) throw error;
    return "refused";
  }
}

async function present(recipients: string[]): Promise<Buffer> {
  const identities = recipients.length > 0 ? key.identityFile : undefined;
  return await buffer(await decodeWal(await storage.get(walKey(place, name), { signal }), identities, signal));
}

const kinds = [
  { title: "a folder", open: () => storage, isEncrypted: false },
  { title: "a folder, encrypted", open: () => storage, isEncrypted: true },
  { title: "a storage without conditions", open: unconditional, isEncrypted: false },
  { title: "a storage without conditions, encrypted", open: unconditional, isEncrypted: true },
];

describe.each(kinds)("in $title", ({ open, isEncrypted }) => {
  test("the same bytes again are a success, and other ones are refused, also for who knows nothing of before", async () => {
    const recipients = isEncrypted ? [key.recipient] : [];
    expect(await put(open(), ours, recipients)).toBe("stored");
    expect(await put(open(), ours, recipients)).toBe("stored");
    expect(await put(open(), theirs, recipients)).toBe("refused");
    expect(await put(open(), ours, recipients)).toBe("stored");
    expect((await present(recipients)).equals(ours)).toBe(true);
  });

  test("of two that offer other bytes at once at most one stores, and who stored is never overwritten", async () => {
    const recipients = isEncrypted ? [key.recipient] : [];
    const both = await Promise.all([put(open(), ours, recipients), put(open(), theirs, recipients)]);
    expect(both.filter((each) => each === "stored").length).toBeLessThanOrEqual(1);
    // Where each saw the other, both gave way, and whoever comes next is first.
    const first = await put(open(), ours, recipients);
    const second = await put(open(), theirs, recipients);
    expect([first, second].toSorted()).toEqual(["refused", "stored"]);
    expect([
      [first, second],
      ["refused", "refused"],
    ]).toContainEqual(both);
    expect((await present(recipients)).equals(first === "stored" ? ours : theirs)).toBe(true);
  });
});

test("what was stored encrypted without a claim is not called the same, however often it is asked for", async () => {
  const recipients = [key.recipient];
  await put(storage, ours, recipients);
  const [claim] = await Array.fromAsync(storage.list(walClaimPrefix(place, name), signal));
  expect(claim?.key.endsWith(sha256(ours))).toBe(true);
  await storage.deleteMany([claim?.key ?? ""], signal);
  for (const bytes of [ours, theirs, theirs]) expect(await put(storage, bytes, recipients)).toBe("refused");
  expect(await Array.fromAsync(storage.list(walClaimPrefix(place, name), signal))).toEqual([]);
});
