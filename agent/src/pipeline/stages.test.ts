import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { openChain } from "../host/chain.ts";
import { decodePrograms, encodePrograms, parseCodec } from "./stages.ts";

test("what is encoded at any level decodes to itself, and a broken copy does not", async () => {
  const signal = new AbortController().signal;
  const plain = Buffer.from("all work and no play ".repeat(10_000));
  for (const level of [0, 1, 19]) {
    await using encode = await openChain(encodePrograms("zstd", level), { signal, input: Readable.from([plain]) });
    const stored = Buffer.concat((await Array.fromAsync(encode.output)) as Buffer[]);
    expect(stored.length).toBeLessThan(plain.length);
    await using decode = await openChain(decodePrograms("zstd"), { signal, input: Readable.from([stored]) });
    expect(Buffer.concat((await Array.fromAsync(decode.output)) as Buffer[]).equals(plain)).toBe(true);
    stored.writeUInt8(stored.readUInt8(stored.length - 1) ^ 1, stored.length - 1);
    await using broken = await openChain(decodePrograms("zstd"), { signal, input: Readable.from([stored]) });
    await expect(Array.fromAsync(broken.output)).rejects.toMatchObject({ reason: "PROGRAM_FAILED" });
  }
});

test("codec none needs no program, and other codecs are not known", () => {
  expect(encodePrograms("none", 3)).toEqual([]);
  expect(decodePrograms("none")).toEqual([]);
  expect(["zstd", "none", "gzip", ""].map(parseCodec)).toEqual(["zstd", "none", undefined, undefined]);
});
