import { createHash } from "node:crypto";

const zeros = Buffer.alloc(1 << 20);

/** A digest of a segment's beginning, made of its bytes as they come. */
export interface SegmentDigest {
  /** Whether everything that goes into it was taken. */
  readonly isFull: boolean;
  /** Takes the next bytes; those behind the beginning are left out. */
  take(bytes: Buffer): void;
  /** Lower-case hexadecimal; undefined unless it is full. To be asked once. */
  finish(): string | undefined;
}

/** Opens a SHA-256 of so many first bytes of a segment, with zeros behind them up to its size, as parts are archived. */
export function openSegmentDigest({
  bytes,
  segmentBytes,
}: {
  readonly bytes: bigint;
  readonly segmentBytes: bigint;
}): SegmentDigest {
  const hash = createHash("sha256");
  let left = Number(bytes);
  return {
    get isFull() {
      return left === 0;
    },
    take(piece) {
      const taken = piece.subarray(0, left);
      hash.update(taken);
      left -= taken.length;
    },
    finish() {
      if (left > 0) return undefined;
      for (let pad = Number(segmentBytes - bytes); pad > 0; pad -= zeros.length) hash.update(zeros.subarray(0, pad));
      return hash.digest("hex");
    },
  };
}
