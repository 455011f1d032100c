import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { raceSignal } from "@coppice/proto/kit/race";
import { freeChunk } from "../../../host/free-chunk.ts";
import { type ByteBudget, type Lease, slabBytes } from "../../../budget.ts";

/** A piece of a body, held in memory until it is stored; disposing gives the memory back. */
export interface Part extends Disposable {
  readonly sizeBytes: number;
  /** MD5, in base64 as Content-MD5 wants it and in hexadecimal as an ETag shows it. */
  readonly md5: { readonly base64: string; readonly hex: string };
  /** SHA-256 in hexadecimal; undefined when it was not asked for. */
  readonly sha256: string | undefined;
  /** Whether the body ended with it. */
  readonly isLast: boolean;
  /** Its bytes from the beginning, as often as they are needed. */
  open(): Readable;
}

const mebibyte = 1 << 20;
/** Size of the largest part. */
export const largestPartBytes = 56 * mebibyte;
// 8 MiB up to 4 GiB, 16 MiB up to 8 GiB, then 56 MiB: 10,000 of them are more than 512 GiB, and two are in the budget.
const ladder = [
  { upTo: 512, sizeBytes: 8 * mebibyte },
  { upTo: 768, sizeBytes: 16 * mebibyte },
  { upTo: Infinity, sizeBytes: largestPartBytes },
];

// Nobody waits for the part of a body that gives less: what counts in the budget is full within a quarter of an hour.
const slowestBytesPerSecond = 64 << 10;
const usualRestMs = 2_000;

/** Size of the part of that number (from 1). */
export function partBytes(number: number): number {
  return ladder.find(({ upTo }) => number <= upTo)?.sizeBytes ?? 0;
}

/** How a body is read in parts. */
export interface PartsToRead {
  readonly chunks: AsyncIterator<Uint8Array>;
  readonly budget: ByteBudget;
  readonly wantsSha256: boolean;
  /** At most so many bytes there are. */
  readonly mostBytes?: number | undefined;
  /** Whether the memory of a chunk may be freed. */
  readonly ownsChunks: boolean;
  /** How often it is looked whether a part still gets bytes, milliseconds; 2 s when left out. */
  readonly restMs?: number | undefined;
}

/**
 * Reads a body in parts. Each call gives the next one, of `partBytes(number)` unless it is the last, and the whole of a body
 * that is known to fit into the largest one; a first part may be empty, and no other is. Memory is taken when a part's first
 * byte is there, and does not count in the budget while hardly any more come; a part that was given counts until it is
 * disposed of. Rejects with the body's own error or the signal's reason.
 */
export function readParts(toRead: PartsToRead) {
  const { chunks, budget, wantsSha256, mostBytes = 0, ownsChunks, restMs = usualRestMs } = toRead;
  const firstBytes = Math.max(partBytes(1), mostBytes <= largestPartBytes ? mostBytes : 0);
  let ahead: Uint8Array | undefined;
  const peek = async (signal: AbortSignal): Promise<Uint8Array | undefined> => {
    while (!ahead?.length) {
      const read = await raceSignal(chunks.next(), signal);
      if (read.done) return undefined;
      ahead = read.value;
    }
    return ahead;
  };

  return async (number: number, signal: AbortSignal): Promise<Part> => {
    const isEmpty = (await peek(signal)) === undefined;
    const wanted = number === 1 ? firstBytes : partBytes(number);
    const lease = await budget.lease(isEmpty ? 0 : wanted, signal);
    const filled = new Slabs(lease);
    using _resting = restWhileSlow(lease, () => filled.sizeBytes, restMs);
    try {
      const md5 = createHash("md5");
      const sha256 = wantsSha256 ? createHash("sha256") : undefined;
      for (let chunk = await peek(signal); chunk && filled.sizeBytes < wanted; chunk = await peek(signal)) {
        const taken = chunk.subarray(0, wanted - filled.sizeBytes);
        ahead = chunk.subarray(taken.length);
        md5.update(taken);
        sha256?.update(taken);
        filled.add(taken);
        if (ownsChunks && ahead.length === 0) freeChunk(chunk);
      }
      const isLast = (await peek(signal)) === undefined;
      const digest = md5.digest();
      return {
        sizeBytes: filled.sizeBytes,
        md5: { base64: digest.toString("base64"), hex: digest.toString("hex") },
        sha256: sha256?.digest("hex"),
        isLast,
        open: () => Readable.from(filled.views(), { objectMode: false, highWaterMark: slabBytes }),
        [Symbol.dispose]: () => lease[Symbol.dispose](),
      };
    } catch (error) {
      lease[Symbol.dispose]();
      throw error;
    }
  };
}

/**
 * Has a lease rest while hardly any bytes come; it counts again when more do, or this is disposed of. WAL that is stored
 * with a backup comes when the server writes some, and a dump may wait for a lock: others would wait for their memory,
 * the rest of the same backup among them.
 */
function restWhileSlow(lease: Lease, filledBytes: () => number, everyMs: number): Disposable {
  const leastBytes = (slowestBytesPerSecond * everyMs) / 1000;
  let before = 0;
  const timer = setInterval(() => {
    const now = filledBytes();
    lease.rest(now - before < leastBytes);
    before = now;
  }, everyMs);
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      lease.rest(false);
    },
  };
}

/** Bytes in the buffers of one lease. */
class Slabs {
  readonly #lease: Lease;
  readonly #slabs: Buffer[] = [];
  sizeBytes = 0;

  constructor(lease: Lease) {
    this.#lease = lease;
  }

  add(bytes: Uint8Array): void {
    for (let rest = bytes; rest.length > 0;) {
      const offset = this.sizeBytes % slabBytes;
      if (offset === 0) this.#slabs.push(this.#lease.slab());
      const taken = rest.subarray(0, slabBytes - offset);
      this.#slabs.at(-1)?.set(taken, offset);
      this.sizeBytes += taken.length;
      rest = rest.subarray(taken.length);
    }
  }

  views(): Buffer[] {
    return this.#slabs.map((slab, index) => slab.subarray(0, this.sizeBytes - index * slabBytes));
  }
}
