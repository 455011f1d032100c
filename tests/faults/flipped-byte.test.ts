import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeClusterFile } from "../../agent/src/repository/cluster-file.ts";
import { scanRepository } from "../../agent/src/repository/survey/scan.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { repositoryKinds } from "../support/faults/repositories.ts";

const signal = AbortSignal.timeout(120_000);
let folder: string;
let storage: Storage;
beforeAll(async () => {
  // Real backups of every format, codec and encryption, and no server to make them.
  folder = await mkdtemp(join(tmpdir(), "coppice-flipped-"));
  await cp(join(import.meta.dirname, "../golden/v1/repository"), folder, { recursive: true });
  storage = await openFilesystem(folder, "op_flipped");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function withFlippedByte(file: string, at: number, work: () => Promise<void>): Promise<void> {
  const bytes = await readFile(file);
  const changed = Buffer.from(bytes);
  changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
  await writeFile(file, changed);
  try {
    await work();
  } finally {
    await writeFile(file, bytes);
  }
}

const scan = () => scanRepository(storage, { knownFolders: [], activeFolders: [], signal, onProgress: () => {} });

test("one changed bit anywhere in any object of a backup is found, and the object is named", async () => {
  const { backups } = await scan();
  expect(backups).toHaveLength(5);
  for (const { folder: name, manifestSha256 } of backups) {
    const clusterId = `cls_${"0".repeat(25)}1`;
    const address = create(BackupAddressSchema, {
      clusterId,
      backupId: name.slice(name.indexOf("bkp_")),
      folder: name,
      manifestSha256,
    });
    const verify = () => verifyBackup(storage, address, { signal, onProgress: () => {} });
    const place = join(folder, clusterId, "backups", name);
    const entries = await readdir(place, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    // Globals, recipe, manifest and a database at least.
    expect(files.length).toBeGreaterThanOrEqual(4);
    for (const file of files) {
      const { length } = await readFile(file);
      for (const at of [0, length >> 1, length - 1]) {
        await withFlippedByte(file, at, async () => {
          const { failure, result } = await verify();
          const key = file.slice(folder.length + 1);
          // Of a manifest that is broken, the digest is one trouble and what it says another.
          expect(new Set(result.problems.map((problem) => problem.key))).toEqual(new Set([key]));
          expect(failure?.reason).toBe("DIGEST_MISMATCH");
          expect(failure?.message).toContain(key);
        });
      }
    }
    expect((await verify()).failure).toBeUndefined();
  }
});

test("a cluster.json that cannot be read any more is named by who reads it, never replaced, and hides no backup", async () => {
  const clusterId = `cls_${"0".repeat(25)}1`;
  const file = join(folder, clusterId, "cluster.json");
  await withFlippedByte(file, 0, async () => {
    const broken = await readFile(file);
    const write = writeClusterFile(storage, create(ClusterFileSchema, { clusterId, name: "golden" }), signal);
    await expect(write).rejects.toMatchObject({
      reason: "MANIFEST_UNREADABLE",
      message: expect.stringContaining(`${clusterId}/cluster.json`) as string,
    });
    expect((await readFile(file)).equals(broken)).toBe(true);
    expect((await scan()).backups).toHaveLength(5);
  });
});

test("a recipe that is not the one that was written is named by a scan and not handed on, and its backup still counts", async () => {
  const clusterId = `cls_${"0".repeat(25)}1`;
  const [first] = (await scan()).backups;
  const key = `${clusterId}/backups/${first?.folder}/RECOVER.txt`;
  await withFlippedByte(join(folder, key), 700, async () => {
    const { backups, unreadable } = await scan();
    expect(unreadable).toEqual([expect.stringMatching(`^${key}: object ${key} has digest `)]);
    expect(backups.map(({ recipe }) => recipe === "")).toEqual([true, false, false, false, false]);
  });
  expect((await scan()).unreadable).toEqual([]);
});

test.each(["s3", "ssh"] as const)(
  "in a repository of kind %s too each object that is not what was written is named",
  async (kind) => {
    await using repositories = await repositoryKinds[kind]();
    await using place = await repositories.openEmpty("op_flipped");
    const [backup] = (await scan()).backups.slice(3);
    if (!backup) throw new Error("there is no backup");
    const clusterId = `cls_${"0".repeat(25)}1`;
    const prefix = `${clusterId}/backups/${backup.folder}/`;
    const objects = new Map<string, Buffer>();
    for await (const { key } of storage.list(prefix, signal)) {
      const bytes = await readFile(join(folder, key));
      objects.set(key, bytes);
      await place.storage.put(key, Readable.from([bytes], { objectMode: false }), { signal, ifAbsent: true });
    }
    expect([...objects.keys()].map((key) => key.slice(prefix.length).replace(/\d+\.sql/, "DB.sql")).toSorted()).toEqual(
      ["RECOVER.txt", "db/DB.sql.zst.age.0000", "globals.sql.zst.age.0000", "manifest.json"],
    );
    const { folder: name, manifestSha256 } = backup;
    const backupId = name.slice(name.indexOf("bkp_"));
    const address = create(BackupAddressSchema, { clusterId, backupId, folder: name, manifestSha256 });
    const verify = () => verifyBackup(place.storage, address, { signal, onProgress: () => {} });
    const put = (key: string, bytes: Buffer) =>
      place.storage.put(key, Readable.from([bytes], { objectMode: false }), { signal, ifAbsent: false });
    for (const [key, bytes] of objects) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
      await put(key, changed);
      const { failure, result } = await verify();
      expect(new Set(result.problems.map((problem) => problem.key))).toEqual(new Set([key]));
      expect(failure).toMatchObject({ reason: "DIGEST_MISMATCH", message: expect.stringContaining(key) as string });
      await put(key, bytes);
    }
    expect((await verify()).failure).toBeUndefined();
  },
);
