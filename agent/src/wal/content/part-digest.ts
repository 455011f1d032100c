import { createHash } from "node:crypto";

const zeros = Buffer.alloc(1 << 20);

/**
 * SHA-256 of so many first bytes of a file, with zeros behind them up to its size, as parts of segments are stored; lower-case
 * hexadecimal. Undefined where there are not so many. What the source fails with it fails with.
 */
export async function digestPart(
  source: AsyncIterable<Buffer>,
  { bytes, sizeBytes }: { readonly bytes: number; readonly sizeBytes: number },
): Promise<string | undefined> {
  const hash = createHash("sha256");
  let left = bytes;
  for await (const chunk of source) {
    hash.update(chunk.subarray(0, left));
    left -= Math.min(left, chunk.length);
    if (left === 0) break;
  }
  if (left > 0) return undefined;
  for (let pad = sizeBytes - bytes; pad > 0; pad -= zeros.length) hash.update(zeros.subarray(0, pad));
  return hash.digest("hex");
}
