import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { syncAlong } from "./sync-along.ts";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-sync-"));
  await mkdir(join(folder, "base"));
  for (const name of ["large", "largest"]) await writeFile(join(folder, "base", name), Buffer.alloc(9 << 20, name));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("a file that is said before it is there is waited for until the next one is said", async () => {
  const names = new PassThrough();
  const synced = syncAlong(names, folder);
  names.write("base/\nbase/large\nbase/late");
  names.write("r\n");
  await new Promise((resolve) => setImmediate(resolve));
  await writeFile(join(folder, "base", "later"), "x");
  names.end("base/never\nbase/largest\n");
  await expect(synced).resolves.toBeUndefined();
});

test("it ends when nothing is said", async () => {
  await expect(syncAlong(Readable.from([]), folder)).resolves.toBeUndefined();
});

test("it fails as what says the names does", async () => {
  const names = new PassThrough();
  const synced = syncAlong(names, folder);
  names.write("base/large\n");
  names.destroy(new Error("tar is gone"));
  await expect(synced).rejects.toThrow("tar is gone");
});

test("a file that cannot be synced fails it, whatever is still said", async () => {
  const names = new PassThrough();
  const synced = syncAlong(names, folder);
  names.write("base/large/file\n");
  await expect(synced).rejects.toMatchObject({ code: "ENOTDIR" });
  names.end();
});
