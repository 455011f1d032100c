import { createHash } from "node:crypto";
import type { Storage } from "../../storage/storage.ts";
import { decodeWal, toDecodeFailure } from "./wal-codec.ts";

/**
 * SHA-256 of the plain bytes of a stored file, by reading all of it. Fails with IDENTITY_MISSING where it is encrypted, with
 * CONTENT_UNREADABLE, and as the storage does.
 */
export async function readDigest(storage: Storage, key: string, signal: AbortSignal): Promise<string> {
  try {
    const hash = createHash("sha256");
    const plain = await decodeWal(await storage.get(key, { signal }), undefined, signal);
    for await (const chunk of plain as AsyncIterable<Buffer>) hash.update(chunk);
    return hash.digest("hex");
  } catch (error) {
    signal.throwIfAborted();
    throw toDecodeFailure(error, key);
  }
}
