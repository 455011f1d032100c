import { link, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { putFileIntoPlace, seeFile, settleFile, unfinishedFile } from "./part-file.ts";

let folder: string;
let path: string;
let unfinished: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-part-file-"));
  path = join(folder, "items.dump");
  unfinished = unfinishedFile(path, "op_1");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("a file gets its name when it is whole, and never takes another's place", async () => {
  await expect(seeFile(path)).resolves.toMatchObject({ message: expect.stringContaining(path) as string });
  await writeFile(unfinished, "whole");
  await putFileIntoPlace(unfinished, path);
  expect(await readdir(folder)).toEqual(["items.dump"]);
  await expect(seeFile(path)).rejects.toMatchObject({ reason: "FILE_EXISTS" });
  await writeFile(unfinished, "other");
  await expect(putFileIntoPlace(unfinished, path)).rejects.toMatchObject({ reason: "FILE_EXISTS" });
  expect(await readFile(path, "utf8")).toBe("whole");
  await expect(seeFile(join(folder, "nowhere/x"))).rejects.toMatchObject({ reason: "FILE_NOT_WRITABLE" });
});

test("what a killed run has left is told by whether the file had its name already", async () => {
  await writeFile(unfinished, "half");
  expect(await settleFile(unfinished, path)).toEqual({ isInPlace: false, isRemoved: true });
  await writeFile(unfinished, "whole");
  await link(unfinished, path);
  expect(await settleFile(unfinished, path)).toEqual({ isInPlace: true, isRemoved: false });
  expect(await readdir(folder)).toEqual(["items.dump"]);
  await writeFile(unfinished, "of another run");
  expect(await settleFile(unfinished, path)).toEqual({ isInPlace: false, isRemoved: true });
  expect(await settleFile(unfinished, path)).toEqual({ isInPlace: false, isRemoved: false });
});
