import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { copyMethod } from "../../agent/src/physical/combine/copy-method.ts";
import { type LoopDisk, openLoopDisk, whyNoLoopDisk } from "../support/faults/loop-disk.ts";

const unavailable = whyNoLoopDisk();
let cloning: LoopDisk;
let plain: string;
beforeAll(async () => {
  plain = await mkdtemp("/dev/shm/coppice-plain-");
  if (unavailable === undefined) cloning = await openLoopDisk("xfs", "512M");
});
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});
afterAll(async () => {
  await cloning?.[Symbol.asyncDispose]();
  await rm(plain, { recursive: true, force: true });
});

test("backups are combined by links from 18 on, and before by clones where every file system has them", async () => {
  expect(await copyMethod(18, [plain])).toBe("--link");
  expect(await copyMethod(17, [cloning.path])).toBe("--clone");
  expect(await copyMethod(17, [cloning.path, plain])).toBe("--copy");
  expect([...(await readdir(cloning.path)), ...(await readdir(plain))]).toEqual([]);
  await expect(copyMethod(17, [join(plain, "nowhere")])).rejects.toThrow("ENOENT");
});
