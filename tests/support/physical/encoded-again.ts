import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

/** Other bytes of the same length that say the same: compressed better, and filled up with what decoders skip. */
export function encodedAgain(stored: Buffer): Buffer {
  const plain = zstdDecompressSync(stored);
  const better = zstdCompressSync(plain, { params: { [constants.ZSTD_c_compressionLevel]: 6 } });
  const filling = Buffer.alloc(stored.length - better.length);
  filling.writeUInt32LE(0x184d2a50, 0);
  filling.writeUInt32LE(filling.length - 8, 4);
  return Buffer.concat([better, filling]);
}
