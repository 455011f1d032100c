import { mkdtemp, readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { copyMethod } from "../../agent/src/physical/combine/copy-method.ts";
import { type LoopDisk, openLoopDisk, runSystem, whyNoLoopDisk } from "../support/faults/loop-disk.ts";

const unavailable = whyNoLoopDisk();
let cloning: LoopDisk;
let plain: string;
/** Of queues of messages, each of which has one name only. */
let linkless: string;
beforeAll(async () => {
  plain = await mkdtemp("/dev/shm/coppice-plain-");
  linkless = await mkdtemp("/dev/shm/coppice-linkless-");
  if (unavailable === undefined) await runSystem("mount", "-t", "mqueue", "none", linkless);
  if (unavailable === undefined) cloning = await openLoopDisk("xfs", "512M");
});
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});
afterAll(async () => {
  await cloning?.[Symbol.asyncDispose]();
  if (unavailable === undefined) await runSystem("umount", linkless);
  await rmdir(linkless);
  await rm(plain, { recursive: true, force: true });
});

test("backups are combined by links from 18 on, before by clones, and as copies where a file system has none", async () => {
  expect(await copyMethod(18, [plain])).toBe("--link");
  expect(await copyMethod(18, [plain, linkless])).toBe("--copy");
  expect(await copyMethod(17, [cloning.path])).toBe("--clone");
  expect(await copyMethod(17, [cloning.path, plain])).toBe("--copy");
  expect([...(await readdir(cloning.path)), ...(await readdir(plain)), ...(await readdir(linkless))]).toEqual([]);
  await expect(copyMethod(17, [join(plain, "nowhere")])).rejects.toThrow("ENOENT");
});
