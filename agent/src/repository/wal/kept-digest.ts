import type { Storage } from "../../storage/storage.ts";
import { walKey, type WalPlace } from "../layout.ts";
import { claimedDigests } from "./claimed-digests.ts";

/**
 * SHA-256 of the plain bytes of a stored file of WAL that need not be readable here: as it was kept with the file, or as the
 * file's name was claimed; undefined where neither tells. Fails as the storage does.
 */
export async function keptDigest(
  storage: Storage,
  { place, name, signal }: { readonly place: WalPlace; readonly name: string; readonly signal: AbortSignal },
): Promise<string | undefined> {
  const { keepsDigests } = storage.capabilities;
  const kept = keepsDigests ? (await storage.stat(walKey(place, name), signal))?.contentSha256 : undefined;
  if (kept !== undefined) return kept;
  const claimed = await claimedDigests(storage, { place, name, signal });
  return claimed.length === 1 ? claimed[0] : undefined;
}
