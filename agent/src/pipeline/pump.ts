import { createHash, type Hash } from "node:crypto";
import type { Readable } from "node:stream";
import { fail } from "@coppice/proto/kit/failure";

/** One object that a stream was cut into. */
export interface PumpedObject {
  readonly sizeBytes: number;
  /** SHA-256 of its bytes, lower-case hexadecimal. */
  readonly sha256: string;
}

/** How a stream is cut and where its pieces go. */
export interface PumpOptions {
  /** Largest size of an object. */
  readonly limitBytes: number;
  /** Takes the bytes of one object, numbered from 0, to their end and gives how many it has stored. */
  readonly store: (index: number, body: AsyncIterable<Uint8Array>) => Promise<{ sizeBytes: number }>;
  /** Called with the number of bytes taken since the last call. */
  readonly onBytes: (bytes: number) => void;
}

/**
 * Reads a stream once and hands it on as numbered objects, digested on the way; at least one object, also of an empty
 * stream. It holds one chunk of the stream and leaves back-pressure to `store`. The source is destroyed when it fails;
 * the source's own error comes out as it is.
 */
export async function pump(source: Readable, { limitBytes, store, onBytes }: PumpOptions): Promise<PumpedObject[]> {
  const chunks = source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  // What was read and belongs to the next object.
  let ahead: Uint8Array | undefined;
  const next = async (): Promise<Uint8Array | undefined> => {
    if (ahead) return ahead;
    const read = await chunks.next();
    return read.done ? undefined : read.value;
  };

  async function* take(piece: { hash: Hash; sizeBytes: number; isWhole: boolean }) {
    for (let room = limitBytes; room > 0;) {
      const chunk = await next();
      if (!chunk) break;
      const taken = chunk.subarray(0, room);
      ahead = taken.length < chunk.length ? chunk.subarray(taken.length) : undefined;
      room -= taken.length;
      piece.hash.update(taken);
      piece.sizeBytes += taken.length;
      onBytes(taken.length);
      yield taken;
    }
    piece.isWhole = true;
  }

  const objects: PumpedObject[] = [];
  try {
    do {
      const piece = { hash: createHash("sha256"), sizeBytes: 0, isWhole: false };
      const stored = await store(objects.length, take(piece));
      if (!piece.isWhole || stored.sizeBytes !== piece.sizeBytes) {
        fail(
          "DIGEST_MISMATCH",
          `object ${objects.length} of ${piece.sizeBytes} bytes was stored as ${stored.sizeBytes}`,
        );
      }
      objects.push({ sizeBytes: piece.sizeBytes, sha256: piece.hash.digest("hex") });
      ahead = await next();
    } while (ahead);
    return objects;
  } finally {
    source.destroy();
  }
}
