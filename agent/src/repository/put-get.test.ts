import { readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { clone } from "@bufbuild/protobuf";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type StoredBackup, storeBackup } from "../../../tests/support/stored-backup.ts";
import { openStoredFile, openStoredStream, readManifest } from "./get.ts";
import { manifestObjects } from "./manifest-objects.ts";
import { partBytes } from "../storage/s3/put/parts.ts";
import { commitManifest, largestObjectBytes, storeStream } from "./put.ts";

const signal = new AbortController().signal;
let backup: StoredBackup;
beforeEach(async () => {
  backup = await storeBackup(signal);
});
afterEach(async () => {
  await backup[Symbol.asyncDispose]();
});

function streamOf(database: string) {
  const { content } = backup.manifest;
  const stream =
    content.case === "dump" ? content.value.databases.find(({ name }) => name === database)?.stream : undefined;
  if (!stream) throw new Error(`${database} is not in the test's backup`);
  return stream;
}

const open = (database: string, onBytes?: (bytes: number) => void) =>
  openStoredStream(backup.storage, {
    prefix: backup.prefix,
    stream: streamOf(database),
    signal,
    ...(onBytes ? { onBytes } : {}),
  });

test("a manifest reads back as it was committed, first what a reader must know", async () => {
  const { manifest, sha256, text } = await readManifest(backup.storage, backup.address, signal);
  expect(manifest).toEqual(backup.manifest);
  expect(sha256).toBe(backup.address.manifestSha256);
  expect(Object.keys(JSON.parse(text) as object).slice(0, 2)).toEqual(["formatVersion", "requiredFeatures"]);
});

test("a stream of several objects reads back as one, and an empty one as nothing", async () => {
  let counted = 0;
  const bytes = Buffer.concat((await Array.fromAsync(open("orders", (more) => (counted += more)))) as Buffer[]);
  expect(bytes.equals(Buffer.alloc(2_500_000, "o"))).toBe(true);
  expect(counted).toBe(2_500_000);
  expect(streamOf("orders").objects.map(({ key, sizeBytes }) => `${key} ${sizeBytes}`)).toEqual([
    "db/1.dump.zst.0000 1000000",
    "db/1.dump.zst.0001 1000000",
    "db/1.dump.zst.0002 500000",
  ]);
  expect(await Array.fromAsync(open("stock"))).toEqual([]);
  expect(streamOf("stock").objects).toHaveLength(1);
});

test("a stream with a wrong byte, a short, a long or a missing object never ends cleanly", async () => {
  const path = backup.path("db/1.dump.zst.0002");
  const whole = await readFile(path);
  const read = () => Array.fromAsync(open("orders"));
  const stream = streamOf("orders");
  const { storage, prefix } = backup;
  const last = () =>
    openStoredFile(storage, { prefix, stream: { ...stream, objects: stream.objects.slice(2) }, signal });
  const flipped = Buffer.from(whole);
  flipped[1000] = (flipped[1000] ?? 0) ^ 1;
  expect(await openStoredFile(storage, { prefix, stream, signal })).toBeUndefined();
  await (await last())?.check();
  await writeFile(path, flipped);
  await expect((await last())?.check()).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
  await expect(read()).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
  await truncate(path, whole.length - 1);
  expect(await last()).toBeUndefined();
  await expect(read()).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
  await writeFile(path, Buffer.concat([whole, Buffer.from("x")]));
  await expect(read()).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
  await rm(path);
  await expect(read()).rejects.toMatchObject({ reason: "OBJECT_MISSING" });
  await writeFile(path, whole);
  await expect(read()).resolves.toHaveLength(3);
});

test("a source that fails after whole objects leaves none of them", async () => {
  async function* broken() {
    yield Buffer.alloc(2_500_000);
    throw new Error("the program failed");
  }
  const storing = storeStream(backup.storage, {
    prefix: backup.prefix,
    name: "db/3.dump.zst",
    source: Readable.from(broken(), { objectMode: false }),
    codec: "none",
    encrypted: false,
    limitBytes: 1_000_000,
    signal,
  });
  await expect(storing).rejects.toThrow("the program failed");
  expect((await readdir(backup.path("db"))).filter((name) => !/^[12]\./.test(name))).toEqual([]);
});

test("an abort after whole objects leaves none of them either", async () => {
  const controller = new AbortController();
  const source = new Readable({ read() {} });
  source.push(Buffer.alloc(2_500_000));
  const storing = storeStream(backup.storage, {
    prefix: backup.prefix,
    name: "db/3.dump.zst",
    source,
    codec: "none",
    encrypted: false,
    limitBytes: 1_000_000,
    signal: controller.signal,
  });
  setTimeout(() => controller.abort(new Error("cancelled")), 100);
  await expect(storing).rejects.toThrow("cancelled");
  expect(source.destroyed).toBe(true);
  expect((await readdir(backup.path("db"))).filter((name) => !/^[12]\./.test(name))).toEqual([]);
});

test("a commit may be repeated, and another manifest in its place is refused", async () => {
  const { storage, prefix, manifest, address } = backup;
  expect((await commitManifest(storage, { prefix, manifest, signal })).sha256).toBe(address.manifestSha256);
  const other = clone(BackupManifestSchema, manifest);
  other.clusterName = "renamed";
  await expect(commitManifest(storage, { prefix, manifest: other, signal })).rejects.toMatchObject({
    reason: "OBJECT_EXISTS",
  });
});

test("an abort that comes when the manifest is there is too late: it is a backup", async () => {
  const { storage, prefix, manifest, address } = backup;
  await rm(backup.path("manifest.json"));
  const controller = new AbortController();
  const aborting: typeof storage = {
    ...storage,
    async put(...put) {
      const stored = await storage.put(...put);
      controller.abort(new Error("cancelled"));
      return stored;
    },
  };
  const committed = await commitManifest(aborting, { prefix, manifest, signal: controller.signal });
  expect(committed.sha256).toBe(address.manifestSha256);
});

test("a manifest is not committed while an object of it is missing or short", async () => {
  const { storage, prefix, manifest } = backup;
  await rm(backup.path("manifest.json"));
  for (const { object } of manifestObjects(manifest).filter(({ object }) => object.sizeBytes > 0n)) {
    const bytes = await readFile(backup.path(object.key));
    await truncate(backup.path(object.key), 1);
    const committing = () => commitManifest(storage, { prefix, manifest, signal });
    await expect(committing()).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
    await rm(backup.path(object.key));
    await expect(committing()).rejects.toMatchObject({ reason: "OBJECT_MISSING" });
    await writeFile(backup.path(object.key), bytes);
  }
  await expect(readFile(backup.path("manifest.json"))).rejects.toThrow("ENOENT");
});

test("a manifest that is missing, broken, another's or not the expected one is told apart", async () => {
  const { storage, address } = backup;
  const path = backup.path("manifest.json");
  const text = await readFile(path, "utf8");
  const json = JSON.parse(text) as { content?: object };
  const reasonOf = async (content: string, digest = "") => {
    await writeFile(path, content);
    return readManifest(storage, { ...address, manifestSha256: digest }, signal).then(
      () => "read",
      (error: unknown) => (error as { reason: string }).reason,
    );
  };
  const changed = (change: object) => JSON.stringify({ ...json, ...change });
  expect(await reasonOf(text)).toBe("read");
  expect(await reasonOf(changed({ aNewField: { of: ["a newer version"] } }))).toBe("read");
  expect(await reasonOf(`${text} `, address.manifestSha256)).toBe("DIGEST_MISMATCH");
  expect(await reasonOf(text.slice(0, 100))).toBe("MANIFEST_UNREADABLE");
  expect(await reasonOf("")).toBe("MANIFEST_UNREADABLE");
  expect(await reasonOf("[]")).toBe("MANIFEST_UNREADABLE");
  expect(await reasonOf("{}")).toBe("MANIFEST_UNREADABLE");
  expect(await reasonOf(changed({ backupId: "bkp_b" }))).toBe("MANIFEST_UNREADABLE");
  expect(await reasonOf(changed({ recipe: { key: "../../x", sizeBytes: "1", sha256: "0".repeat(64) } }))).toBe(
    "MANIFEST_UNREADABLE",
  );
  expect(await reasonOf(changed({ requiredFeatures: ["wal-embedded"] }))).toBe("FEATURE_UNKNOWN");
  expect(await reasonOf(changed({ formatVersion: 2, backupId: 7 }))).toBe("FEATURE_UNKNOWN");
  await expect(readManifest(storage, { ...address, manifestSha256: "" }, signal)).rejects.toThrow("format version 2");
  await rm(path);
  await expect(readManifest(storage, address, signal)).rejects.toMatchObject({ reason: "MANIFEST_MISSING" });
});

test("an object of a stream as large as they get fits into the ten thousand parts of an upload to S3", () => {
  let parts = 0;
  for (let bytes = 0; bytes < largestObjectBytes; bytes += partBytes(parts)) parts++;
  expect(parts).toBe(9_984);
  expect(largestObjectBytes).toBeLessThanOrEqual(5 * 2 ** 40);
});
