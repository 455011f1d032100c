import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openPress } from "./press.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coppice-press-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

test("several files at once, more than there are threads, are each read, digested and compressed", async () => {
  await using press = openPress();
  const contents = [0, 1, 70_000, 3 << 20, 16 << 20, 5, 1 << 20].map((size, index) =>
    index % 2 === 0 ? randomBytes(size) : Buffer.alloc(size, "coppice"),
  );
  const pressed = await Promise.all(
    contents.map(async (content, index) => {
      const path = join(folder, `several-${index}`);
      await writeFile(path, content);
      await using file = await open(path);
      await using one = await press.read(file, { expectedBytes: content.length });
      const plain = zstdDecompressSync(await one.compress(1));
      // The digest of the same, while it is compressed once more.
      const [digest] = await Promise.all([one.sha256(), one.compress(1)]);
      return { sizeBytes: one.sizeBytes, sha256: digest, start: sha256(one.start), plain: sha256(plain) };
    }),
  );
  expect(pressed).toEqual(
    contents.map((content) => ({
      sizeBytes: content.length,
      sha256: sha256(content),
      start: sha256(content.subarray(0, 64 << 10)),
      plain: sha256(content),
    })),
  );
});

test("what was digested and compressed holds no thread, and what was not holds its own", async () => {
  await using press = openPress();
  const path = join(folder, "held");
  await writeFile(path, "held");
  await using file = await open(path);
  const read = () => press.read(file, { expectedBytes: 4 });
  // More than there can be threads.
  const held = [];
  for (let count = 0; count < 6; count++) {
    const one = await read();
    await one.sha256();
    await one.compress(1);
    held.push(one);
  }
  expect(await Promise.all(held.map((one) => one.sha256()))).toEqual(held.map(() => sha256(Buffer.from("held"))));
  await expect(held[0]?.compress(1)).rejects.toThrow("let go");
  await using _first = await read();
  await using _second = await read();
  await Promise.all(held.map((one) => one[Symbol.asyncDispose]()));
  expect(await Promise.all([_first, _second].map((one) => one.sha256()))).toHaveLength(2);
});

test("a file that cannot be read fails alone", async () => {
  await using press = openPress();
  await using folderFile = await open(folder);
  await expect(press.read(folderFile, { expectedBytes: 1 })).rejects.toThrow("EISDIR");
  const path = join(folder, "after");
  await writeFile(path, "after");
  await using file = await open(path);
  await using one = await press.read(file, { expectedBytes: 5 });
  expect(one.start.toString()).toBe("after");
  await press[Symbol.asyncDispose]();
  await expect(press.read(file, { expectedBytes: 5 })).rejects.toMatchObject({ reason: "WAL_NOT_READY" });
});

test("who waits for a thread when it is disposed waits no longer", async () => {
  const press = openPress();
  const path = join(folder, "waits");
  await writeFile(path, "waits");
  await using file = await open(path);
  // More than there can be threads, and nobody lets go of his.
  const reading = Array.from({ length: 6 }, () => press.read(file, { expectedBytes: 5 }));
  await Promise.race(reading);
  await press[Symbol.asyncDispose]();
  const outcomes = await Promise.allSettled(reading);
  expect(outcomes.at(-1)).toMatchObject({ status: "rejected", reason: { reason: "WAL_NOT_READY" } });
});
