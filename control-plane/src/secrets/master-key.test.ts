import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openMasterKey } from "./master-key.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-key-"));
});
afterEach(() => rm(folder, { recursive: true }));

test("the first start makes a key that its owner alone can read, and later starts use it", async () => {
  const first = await openMasterKey({ configured: undefined, dataDirectory: folder });
  expect((await stat(join(folder, "master.key"))).mode & 0o777).toBe(0o600);
  const second = await openMasterKey({ configured: undefined, dataDirectory: folder });
  expect(second.equals(first)).toBe(true);
});

test("starts at the same time agree on one key", async () => {
  const keys = await Promise.all(
    Array.from({ length: 8 }, () => openMasterKey({ configured: undefined, dataDirectory: folder })),
  );
  const file = await readFile(join(folder, "master.key"), "utf8");
  expect(new Set(keys.map((key) => key.export().toString("base64")))).toEqual(new Set([file.trim()]));
});

test("a key that others can read is refused with the command that mends it", async () => {
  await openMasterKey({ configured: undefined, dataDirectory: folder });
  await chmod(join(folder, "master.key"), 0o640);
  await expect(openMasterKey({ configured: undefined, dataDirectory: folder })).rejects.toMatchObject({
    reason: "CONFIGURATION_INVALID",
    hint: `chmod 600 ${folder}/master.key`,
  });
});

test("a configured key is used and leaves no file", async () => {
  const bytes = randomBytes(32);
  const key = await openMasterKey({ configured: bytes.toString("base64"), dataDirectory: folder });
  expect(key.export().equals(bytes)).toBe(true);
  await expect(stat(join(folder, "master.key"))).rejects.toMatchObject({ code: "ENOENT" });
});
