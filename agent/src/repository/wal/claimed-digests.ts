import type { Storage } from "../../storage/storage.ts";
import { walClaimPrefix, type WalPlace } from "../layout.ts";

/** The digests that a name of a WAL archive is claimed for. Fails as the storage does. */
export async function claimedDigests(
  storage: Storage,
  { place, name, signal }: { readonly place: WalPlace; readonly name: string; readonly signal: AbortSignal },
): Promise<string[]> {
  const prefix = walClaimPrefix(place, name);
  const digests: string[] = [];
  for await (const { key } of storage.list(prefix, signal)) digests.push(key.slice(prefix.length));
  return digests;
}
