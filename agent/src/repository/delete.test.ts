import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type StoredBackup, storeBackup } from "../../../tests/support/stored-backup.ts";
import { deleteBackup } from "./delete.ts";
import { findLeavings, removeLeavings } from "./leavings/leavings.ts";
import { manifestObjects } from "./manifest-objects.ts";

const signal = new AbortController().signal;
let backup: StoredBackup;
beforeEach(async () => {
  backup = await storeBackup(signal);
});
afterEach(async () => {
  await backup[Symbol.asyncDispose]();
});

const temporary = (operationId: string) => `db/.coppice-unfinished.${operationId}.0123456789abcdef`;
const leavingsOf = (operationId: string) =>
  findLeavings(backup.storage, { prefix: backup.prefix, operationId, signal });

test("a deleted backup is gone with its folders, and deleting it again is no error", async () => {
  await writeFile(backup.path(temporary("op_backup")), "half");
  expect(await deleteBackup(backup.storage, backup.address, [], signal)).toMatchObject({ objects: 7 });
  expect(await readdir(join(backup.folder, "cls_a"))).toEqual(["cluster.json"]);
  expect(await deleteBackup(backup.storage, backup.address, ["db/1.dump.zst.0000"], signal)).toMatchObject({
    objects: 0,
  });
});

test("a backup whose manifest is gone or broken is deleted by the keys that the catalog knows", async () => {
  const keys = manifestObjects(backup.manifest).map(({ object }) => object.key);
  await writeFile(backup.path("manifest.json"), "torn");
  expect(await deleteBackup(backup.storage, backup.address, keys, signal)).toMatchObject({ objects: 7 });
  expect(await readdir(join(backup.folder, "cls_a"))).toEqual(["cluster.json"]);
});

test("nothing is called deleted in a place that has never heard of the cluster", async () => {
  await rename(join(backup.folder, "cls_a"), join(backup.folder, "unmounted"));
  await expect(deleteBackup(backup.storage, backup.address, ["RECOVER.txt"], signal)).rejects.toMatchObject({
    reason: "REPOSITORY_UNREACHABLE",
  });
});

test("a delete takes nothing that nobody named, and no key leads out of the backup", async () => {
  await writeFile(backup.path("db/note"), "mine");
  await writeFile(join(backup.folder, "other"), "other");
  for (const key of ["../../../other", "/etc/passwd", ""]) {
    await expect(deleteBackup(backup.storage, backup.address, [key], signal)).rejects.toMatchObject({
      reason: "OBJECT_KEY_REFUSED",
    });
  }
  await deleteBackup(backup.storage, backup.address, [], signal);
  expect(await readdir(backup.path("db"))).toEqual(["note"]);
  expect(await readdir(backup.folder)).toContain("other");
});

test("a backup with a feature that is not known is left whole", async () => {
  const text = await readFile(backup.path("manifest.json"), "utf8");
  await writeFile(backup.path("manifest.json"), text.replace('"requiredFeatures": []', '"requiredFeatures": ["x"]'));
  await expect(deleteBackup(backup.storage, backup.address, ["RECOVER.txt"], signal)).rejects.toMatchObject({
    reason: "FEATURE_UNKNOWN",
  });
  expect(await readdir(backup.path("."))).toEqual(["RECOVER.txt", "db", "globals.sql.zst.0000", "manifest.json"]);
});

test("a committed backup has no leavings but unended puts, and only of the operation asked for", async () => {
  await writeFile(backup.path(temporary("op_backup")), "half");
  await writeFile(backup.path(temporary("op_other")), "half");
  const leavings = await leavingsOf("op_backup");
  expect(leavings.objects).toEqual([]);
  expect(leavings.unfinished).toMatchObject([{ operationId: "op_backup", sizeBytes: 4 }]);
  expect(await removeLeavings(backup.storage, leavings, signal)).toEqual([
    `unfinished ${backup.prefix}${temporary("op_backup")} of 4 bytes`,
  ]);
  expect((await leavingsOf("op_other")).unfinished).toHaveLength(1);
});

test("what a backup without a manifest has left is found and removed whole", async () => {
  await rm(backup.path("manifest.json"));
  await writeFile(backup.path(temporary("op_backup")), "half");
  const leavings = await leavingsOf("op_backup");
  expect(leavings.objects).toHaveLength(6);
  expect(await removeLeavings(backup.storage, leavings, signal)).toHaveLength(7);
  expect(await readdir(join(backup.folder, "cls_a"))).toEqual(["cluster.json"]);
  expect(await leavingsOf("op_backup")).toEqual({ objects: [], unfinished: [] });
});
