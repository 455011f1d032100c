import { buffer } from "node:stream/consumers";
import { walClaimPrefix, walKey, type WalPlace } from "../../repository/layout.ts";
import { claimedDigests } from "../../repository/wal/claimed-digests.ts";
import type { Storage } from "../../storage/storage.ts";
import { parseLinks } from "../content/links-text.ts";
import type { RecordLinks } from "../content/record-links.ts";

/** More than links are long. */
const mostBytes = 100;

/**
 * The links of a stored segment, without reading it: as they were kept with it, or with the claim on its name. Undefined
 * where they were not kept. Fails as the storage does.
 */
export async function storedLinks(
  storage: Storage,
  { place, name, signal }: { readonly place: WalPlace; readonly name: string; readonly signal: AbortSignal },
): Promise<RecordLinks | undefined> {
  if (storage.capabilities.keepsDigests)
    return parseLinks((await storage.stat(walKey(place, name), signal))?.contentNote ?? "");
  const [claimed, ...others] = await claimedDigests(storage, { place, name, signal });
  if (claimed === undefined || others.length > 0) return undefined;
  const range = { offset: 0, length: mostBytes };
  const kept = await storage.get(walClaimPrefix(place, name) + claimed, { signal, range });
  return parseLinks((await buffer(kept)).toString("latin1"));
}
