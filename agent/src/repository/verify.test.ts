import { readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import type { WorkDone } from "@coppice/proto/gen/coppice/common/v1/progress";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type StoredBackup, storeBackup } from "../../../tests/support/stored-backup.ts";
import { verifyBackup } from "./verify.ts";

const signal = new AbortController().signal;
let backup: StoredBackup;
beforeEach(async () => {
  backup = await storeBackup(signal);
});
afterEach(async () => {
  await backup[Symbol.asyncDispose]();
});

const verify = () => verifyBackup(backup.storage, backup.address, { signal, onProgress: () => {} });

async function flip(key: string) {
  const bytes = await readFile(backup.path(key));
  bytes[0] = (bytes[0] ?? 0) ^ 0x80;
  await writeFile(backup.path(key), bytes);
}

test("a good backup has no problem, and every byte of it was read", async () => {
  const progress: WorkDone[] = [];
  const { result, failure } = await verifyBackup(backup.storage, backup.address, {
    signal,
    onProgress: (work) => progress.push(work),
  });
  const manifestBytes = (await readFile(backup.path("manifest.json"))).length;
  expect(failure).toBeUndefined();
  expect(result).toMatchObject({ objects: 7, problems: [] });
  expect(result.bytes).toBe(BigInt(manifestBytes + 2_500_000 + 18 + 12));
  expect(progress.at(-1)).toMatchObject({ doneBytes: 2_500_030n, totalBytes: 2_500_030n, doneItems: 6, totalItems: 6 });
});

test("a flipped byte, a truncated and a missing object are each found, with the database they belong to", async () => {
  await flip("db/1.dump.zst.0001");
  await rm(backup.path("db/2.dump.zst.0000"));
  await truncate(backup.path("globals.sql.zst.0000"), 3);
  await rm(backup.path("RECOVER.txt"));
  const { result, failure } = await verify();
  expect(result.problems.map(({ key, affects }) => `${key.replace(backup.prefix, "")}: ${affects}`)).toEqual([
    "globals.sql.zst.0000: globals",
    "db/1.dump.zst.0001: orders",
    "db/2.dump.zst.0000: stock",
    "RECOVER.txt: recipe",
  ]);
  expect(result.problems[0]?.message).toContain("3 bytes instead of 18");
  expect(result.problems[1]?.message).toContain("digest");
  expect(result.problems[2]?.message).toContain("missing");
  expect(failure).toMatchObject({ reason: "DIGEST_MISMATCH", metadata: { problems: "4" } });
  expect(failure?.metadata["affects"]).toBe("globals, orders, stock, recipe");
});

test("a longer object and one that is a link or a folder are problems too", async () => {
  await writeFile(backup.path("globals.sql.zst.0000"), "x", { flag: "a" });
  await rename(backup.path("db/1.dump.zst.0000"), backup.path("moved"));
  await symlink(backup.path("moved"), backup.path("db/1.dump.zst.0000"));
  const { result } = await verify();
  expect(result.problems.map(({ affects }) => affects)).toEqual(["globals", "orders"]);
});

test("a manifest that differs from the catalog's is a problem of everything, and the objects are read all the same", async () => {
  const text = await readFile(backup.path("manifest.json"), "utf8");
  await writeFile(backup.path("manifest.json"), text.replace('"shop"', '"shot"'));
  const { result, failure } = await verify();
  expect(result.objects).toBe(7);
  expect(result.problems).toMatchObject([{ key: `${backup.prefix}manifest.json`, affects: "all" }]);
  expect(failure?.reason).toBe("DIGEST_MISMATCH");
});

test("a manifest that is missing or broken is a problem of everything", async () => {
  await truncate(backup.path("manifest.json"), 50);
  const broken = await verify();
  expect(broken.result.problems.map(({ affects }) => affects)).toEqual(["all", "all"]);
  await rm(backup.path("manifest.json"));
  const missing = await verify();
  expect(missing.result).toMatchObject({ objects: 0, bytes: 0n, problems: [{ affects: "all" }] });
  expect(missing.failure?.reason).toBe("MANIFEST_MISSING");
});

test("what cannot be looked at is no verdict on the backup", async () => {
  const text = await readFile(backup.path("manifest.json"), "utf8");
  await writeFile(backup.path("manifest.json"), text.replace('"requiredFeatures": []', '"requiredFeatures": ["x"]'));
  await expect(verify()).rejects.toMatchObject({ reason: "FEATURE_UNKNOWN" });
  await rename(backup.folder, `${backup.folder}-gone`);
  await expect(verify()).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
  await rename(`${backup.folder}-gone`, backup.folder);
  const reason = new Error("enough");
  const aborted = verifyBackup(backup.storage, backup.address, {
    signal: AbortSignal.abort(reason),
    onProgress: () => {},
  });
  await expect(aborted).rejects.toBe(reason);
});
