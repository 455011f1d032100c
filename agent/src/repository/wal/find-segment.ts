import type { Storage } from "../../storage/storage.ts";

/** What an archive holds of a segment. */
export interface FoundSegment {
  readonly isWhole: boolean;
  /** The longest part that was stored of it, and the first position that is not in it. */
  readonly part: { readonly key: string; readonly endLsn: bigint } | undefined;
}

/** Looks for a segment by its key, and for what was stored of it while it was not full. Fails as the storage does. */
export async function findSegment(storage: Storage, key: string, signal: AbortSignal): Promise<FoundSegment> {
  let isWhole = false;
  let part: FoundSegment["part"];
  for await (const object of storage.list(key, signal)) {
    if (object.key === key) isWhole = true;
    const [, end] = /^\.partial\.([0-9A-F]{16})$/.exec(object.key.slice(key.length)) ?? [];
    if (end === undefined) continue;
    const endLsn = BigInt(`0x${end}`);
    if (part === undefined || endLsn > part.endLsn) part = { key: object.key, endLsn };
  }
  return { isWhole, part };
}
