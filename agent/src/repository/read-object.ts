import { fail } from "@coppice/proto/kit/failure";
import type { Storage } from "../storage/storage.ts";

const mostBytes = 64 << 20;

/** Reads a small object whole. Fails with OBJECT_MISSING, and MANIFEST_UNREADABLE when it is over 64 MiB. */
export async function readObject(storage: Storage, key: string, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of (await storage.get(key, { signal })) as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > mostBytes) fail("MANIFEST_UNREADABLE", `${key} is larger than ${mostBytes} bytes`);
  }
  return Buffer.concat(chunks);
}
