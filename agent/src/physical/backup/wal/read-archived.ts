import { createHash } from "node:crypto";
import { pipeline, Readable } from "node:stream";
import { createZstdDecompress } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { type StoredStream, StoredStreamSchema } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { walKey, type WalPlace, walPrefix } from "../../../repository/layout.ts";
import type { Storage } from "../../../storage/storage.ts";

const ageMagic = Buffer.from("age-encryption.org/");
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const chunkSize = 1 << 20;

/**
 * Reads a file of the archive to its end, and gives its plain bytes to `take`; of one that is encrypted nobody here can
 * tell them. Undefined when it is not there. Fails as the storage does, and with CONTENT_UNREADABLE.
 */
export async function readArchived(
  storage: Storage,
  { place, name, signal }: { readonly place: WalPlace; readonly name: string; readonly signal: AbortSignal },
  take: (plain: Buffer) => void,
): Promise<StoredStream | undefined> {
  const key = walKey(place, name);
  let source: AsyncIterable<Buffer>;
  try {
    source = await storage.get(key, { signal });
  } catch (error) {
    if (isFailure(error, "OBJECT_MISSING")) return undefined;
    throw error;
  }
  const hash = createHash("sha256");
  let sizeBytes = 0n;
  async function* counted(): AsyncGenerator<Buffer, void> {
    for await (const chunk of source) {
      hash.update(chunk);
      sizeBytes += BigInt(chunk.length);
      yield chunk;
    }
  }
  const { head, whole } = await look(counted());
  const begins = (magic: Buffer) => head.subarray(0, magic.length).equals(magic);
  const encrypted = begins(ageMagic);
  if (encrypted) for await (const _ of whole) signal.throwIfAborted();
  else if (begins(zstdMagic)) await decode(whole, key, { signal, take });
  else {
    // Left off, it lets go of the object.
    for await (const _ of whole) break;
    fail("CONTENT_UNREADABLE", `${key} is neither compressed by zstd nor encrypted by age`);
  }
  const object = { key: key.slice(walPrefix(place).length), sizeBytes, sha256: hash.digest("hex") };
  return create(StoredStreamSchema, { codec: "zstd", encrypted, objects: [object] });
}

/** Its first bytes, and all of it. */
async function look(chunks: AsyncGenerator<Buffer, void>) {
  const held: Buffer[] = [];
  for (let bytes = 0; bytes < ageMagic.length;) {
    const next = await chunks.next();
    if (next.done) break;
    held.push(next.value);
    bytes += next.value.length;
  }
  const head = Buffer.concat(held);
  async function* whole(): AsyncGenerator<Buffer, void> {
    try {
      if (head.length > 0) yield head;
      yield* chunks;
    } finally {
      await chunks.return();
    }
  }
  return { head, whole: whole() };
}

async function decode(
  whole: AsyncGenerator<Buffer, void>,
  key: string,
  { signal, take }: { readonly signal: AbortSignal; readonly take: (plain: Buffer) => void },
): Promise<void> {
  // An error of the source comes out as the plain bytes' own.
  const plain = pipeline(Readable.from(whole, { objectMode: false }), createZstdDecompress({ chunkSize }), () => {});
  try {
    for await (const piece of plain as AsyncIterable<Buffer>) {
      signal.throwIfAborted();
      take(piece);
    }
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (!code.startsWith("ZSTD_") && code !== "Z_BUF_ERROR") throw error;
    throw new Failure("CONTENT_UNREADABLE", `${key} does not decompress`, { cause: error });
  }
}
