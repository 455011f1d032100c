import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { pump } from "./pump.ts";

function collector() {
  const objects: Buffer[] = [];
  const store = async (index: number, body: AsyncIterable<Uint8Array>) => {
    const bytes = Buffer.concat(await Array.fromAsync(body));
    objects[index] = bytes;
    return { sizeBytes: bytes.length };
  };
  return { objects, store };
}

test("a stream is cut at the limit, wherever its chunks end", async () => {
  const table: [chunks: number[], limit: number, sizes: number[]][] = [
    [[], 10, [0]],
    [[10], 10, [10]],
    [[5, 5], 10, [10]],
    [[25], 10, [10, 10, 5]],
    [[3, 3, 3, 3], 10, [10, 2]],
    [[30], 10, [10, 10, 10]],
    [[1], 10, [1]],
  ];
  for (const [chunks, limitBytes, sizes] of table) {
    const { objects, store } = collector();
    let next = 0;
    const source = chunks.map((size) => Buffer.from(Array.from({ length: size }, () => next++)));
    let counted = 0;
    const pumped = await pump(Readable.from(source), { limitBytes, store, onBytes: (bytes) => (counted += bytes) });
    expect(pumped.map(({ sizeBytes }) => sizeBytes)).toEqual(sizes);
    expect(Buffer.concat(objects).equals(Buffer.concat(source))).toBe(true);
    expect(counted).toBe(Buffer.concat(source).length);
    for (const [index, { sha256 }] of pumped.entries()) {
      expect(sha256).toBe(
        createHash("sha256")
          .update(objects[index] ?? "")
          .digest("hex"),
      );
    }
  }
});

test("the source waits for the store", async () => {
  let made = 0;
  async function* source() {
    for (; made < 100; made++) yield Buffer.alloc(1 << 20);
  }
  let ahead = 0;
  let taken = 0;
  await pump(Readable.from(source(), { objectMode: false, highWaterMark: 1 << 20 }), {
    limitBytes: 2 ** 39,
    onBytes: () => {},
    async store(_, body) {
      let sizeBytes = 0;
      for await (const chunk of body) {
        sizeBytes += chunk.length;
        taken++;
        await new Promise(setImmediate);
        ahead = Math.max(ahead, made - taken);
      }
      return { sizeBytes };
    },
  });
  expect(made).toBe(100);
  expect(ahead).toBeLessThanOrEqual(3);
});

test("a source or a store that fails ends it with that error, and the source is destroyed", async () => {
  const broken = Readable.from(
    (async function* () {
      yield Buffer.from("x");
      throw new Error("the source broke");
    })(),
  );
  const options = { limitBytes: 10, onBytes: () => {} };
  await expect(pump(broken, { ...options, store: collector().store })).rejects.toThrow("the source broke");
  const source = Readable.from([Buffer.from("x")]);
  const store = () => Promise.reject(new Error("the store broke"));
  await expect(pump(source, { ...options, store })).rejects.toThrow("the store broke");
  expect(source.destroyed).toBe(true);
});

test("a store that did not take an object whole is found out", async () => {
  const lazy = async () => ({ sizeBytes: 0 });
  await expect(
    pump(Readable.from([Buffer.from("x")]), { limitBytes: 10, onBytes: () => {}, store: lazy }),
  ).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
});
