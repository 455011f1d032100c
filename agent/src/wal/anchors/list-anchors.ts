import { parseWalAnchor, type WalAnchor, walAnchorPrefix, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";

/** What a repository says of the times of a server's WAL, by the names that lie there. Fails as the storage does. */
export async function listAnchors(storage: Storage, place: WalPlace, signal: AbortSignal): Promise<WalAnchor[]> {
  const anchors: WalAnchor[] = [];
  for await (const { key } of storage.list(walAnchorPrefix(place), signal)) {
    const anchor = parseWalAnchor(key);
    if (anchor) anchors.push(anchor);
  }
  return anchors;
}
