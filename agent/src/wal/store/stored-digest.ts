import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { claimedDigests } from "./claim.ts";
import { readDigest } from "./read-digest.ts";

/**
 * SHA-256 of the plain bytes of a stored file: as it was kept with it, as its name was claimed, or by reading it back.
 * Fails as reading it does, with IDENTITY_MISSING where it is encrypted and nothing else tells.
 */
export async function storedDigest(
  storage: Storage,
  { place, name, signal }: { readonly place: WalPlace; readonly name: string; readonly signal: AbortSignal },
): Promise<string> {
  const key = walKey(place, name);
  const kept = storage.capabilities.keepsDigests ? (await storage.stat(key, signal))?.contentSha256 : undefined;
  if (kept !== undefined) return kept;
  const [claimed, ...others] = await claimedDigests(storage, { place, name, signal });
  if (claimed !== undefined && others.length === 0) return claimed;
  return await readDigest(storage, key, signal);
}
