import { openSegmentDigest } from "../../postgres/wal/segment-digest.ts";

/**
 * SHA-256 of so many first bytes of a file, with zeros behind them up to its size, as parts of segments are stored; lower-case
 * hexadecimal. Undefined where there are not so many. What the source fails with it fails with.
 */
export async function digestPart(
  source: AsyncIterable<Buffer>,
  { bytes, sizeBytes }: { readonly bytes: number; readonly sizeBytes: number },
): Promise<string | undefined> {
  const digest = openSegmentDigest({ bytes: BigInt(bytes), segmentBytes: BigInt(sizeBytes) });
  for await (const chunk of source) {
    digest.take(chunk);
    if (digest.isFull) break;
  }
  return digest.finish();
}
