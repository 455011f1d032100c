import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { openDigest } from "./digest.ts";

const chunks = [randomBytes(1 << 20), randomBytes(1), randomBytes(70_000), Buffer.alloc(0), randomBytes(3 << 20)];
const copies = () => chunks.map((chunk) => Buffer.from(new Uint8Array(chunk)));
const sha256 = createHash("sha256").update(Buffer.concat(chunks)).digest("hex");

test.each([
  ["a small stream", 1],
  ["a large one, on a thread of its own", 1 << 30],
])("of %s every chunk comes back as it was, and the digest is that of all in their order", async (_, expectedBytes) => {
  await using digest = openDigest(expectedBytes);
  const given = await Promise.all(copies().map((chunk) => digest.update(chunk)));
  expect(Buffer.concat(given).equals(Buffer.concat(chunks))).toBe(true);
  expect(await digest.digest()).toBe(sha256);
});

test("what is a part of others' memory is digested, and their memory stays theirs", async () => {
  await using digest = openDigest(1 << 30);
  const all = Buffer.from(new Uint8Array(randomBytes(100_000)));
  const before = Buffer.from(all);
  const part = await digest.update(all.subarray(10, 60_000));
  expect(part.equals(before.subarray(10, 60_000))).toBe(true);
  expect(all.equals(before)).toBe(true);
  expect(await digest.digest()).toBe(createHash("sha256").update(before.subarray(10, 60_000)).digest("hex"));
});

test("what is still asked when it is closed fails", async () => {
  const digest = openDigest(1 << 30);
  const updating = digest.update(Buffer.from(new Uint8Array(1 << 20))).catch(String);
  await digest[Symbol.asyncDispose]();
  expect(await updating).toContain("a thread that digests a stream has ended");
  await expect(digest.digest()).rejects.toThrow("has ended");
});
