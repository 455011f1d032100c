import { Readable } from "node:stream";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { walClaimPrefix, walKey, type WalPlace } from "../../repository/layout.ts";
import { claimedDigests } from "../../repository/wal/claimed-digests.ts";
import type { Storage } from "../../storage/storage.ts";
import { formatLinks } from "../content/links-text.ts";
import type { RecordLinks } from "../content/record-links.ts";

/** A name of an archive, for the plain bytes of one digest. */
export interface WalClaim {
  readonly place: WalPlace;
  readonly name: string;
  /** SHA-256 of the plain bytes. */
  readonly sha256: string;
  /** Of a whole segment: it is kept in the claim. */
  readonly links?: RecordLinks | undefined;
  readonly signal: AbortSignal;
}

/**
 * Claims a name of an archive for the bytes of one digest, before they are stored under it. Each writer puts a claim that
 * is named for its digest and then looks for others: of two with other bytes at least one sees the other, so that at most
 * one of them goes on, also where a storage keeps no condition of a put. It tells later, too, what a file holds that
 * nobody here can decrypt, and by the links in it what that goes on from; therefore nothing is claimed that is stored
 * already. Who may not read claims nothing. Fails with OBJECT_EXISTS, WAL_CONFLICT, and as the storage does.
 */
export async function claimWal(storage: Storage, claim: WalClaim): Promise<void> {
  const { place, name, sha256, links, signal } = claim;
  try {
    const before = await claimedDigests(storage, claim);
    refuseOthers(storage, claim, before);
    if (before.length > 0) return;
    const file = walKey(place, name);
    if (await storage.stat(file, signal)) fail("OBJECT_EXISTS", `${storage.name} holds ${file} already`);
  } catch (error) {
    if (isFailure(error, "REPOSITORY_NOT_READABLE")) return;
    throw error;
  }
  const key = walClaimPrefix(place, name) + sha256;
  const content = links ? [Buffer.from(formatLinks(links))] : [];
  try {
    await storage.put(key, Readable.from(content), { signal, ifAbsent: true });
  } catch (error) {
    if (!isFailure(error, "OBJECT_EXISTS")) throw error;
  }
  try {
    refuseOthers(storage, claim, await claimedDigests(storage, claim));
  } catch (error) {
    // Whoever was first shall not be kept from going on; where nothing may be deleted a person has to.
    if (isFailure(error, "WAL_CONFLICT")) await storage.deleteMany([key], signal).catch(() => undefined);
    throw error;
  }
}

function refuseOthers(storage: Storage, { name, sha256 }: WalClaim, found: readonly string[]): void {
  if (found.every((each) => each === sha256)) return;
  fail("WAL_CONFLICT", `${storage.name} has, or is being given, other bytes as ${name} than the server gave`, {
    metadata: { name },
  });
}
