import { walKey, type WalPlace } from "../../repository/layout.ts";
import { keptDigest } from "../../repository/wal/kept-digest.ts";
import type { Storage } from "../../storage/storage.ts";
import { readDigest } from "./read-digest.ts";

/**
 * SHA-256 of the plain bytes of a stored file: as it was kept with it, as its name was claimed, or by reading it back.
 * Fails as reading it does, with IDENTITY_MISSING where it is encrypted and nothing else tells.
 */
export async function storedDigest(
  storage: Storage,
  of: { readonly place: WalPlace; readonly name: string; readonly signal: AbortSignal },
): Promise<string> {
  return (await keptDigest(storage, of)) ?? (await readDigest(storage, walKey(of.place, of.name), of.signal));
}
