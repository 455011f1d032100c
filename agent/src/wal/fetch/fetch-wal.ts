import { open, rename, rm, stat, truncate } from "node:fs/promises";
import { createWriteStream } from "node:fs";
import { randomBytes } from "node:crypto";
import { pipeline } from "node:stream/promises";
import { isFailure } from "@coppice/proto/kit/failure";
import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { requireClusterFile } from "../../repository/cluster-file.ts";
import { walKey, type WalPlace, walPrefix } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { decodeWal, toDecodeFailure } from "../store/wal-codec.ts";

/** Which file of an archive is wanted. */
export interface WalToFetch {
  readonly place: WalPlace;
  /** As PostgreSQL asks for it. */
  readonly name: string;
  /** Lines of an age identity file, for encrypted files. */
  readonly identities?: string | undefined;
  /** Where recovery is to find no more: zeros from there on, and no later segment. */
  readonly endLsn?: bigint | undefined;
  readonly signal: AbortSignal;
}

/**
 * Fetches a file of WAL to the path, whole or not at all; of a segment that was never stored whole, what there is of it,
 * with zeros behind. False when the archive surely has no such file. Fails with CONTENT_UNREADABLE, IDENTITY_MISSING,
 * PROGRAM_FAILED where it cannot be decrypted, and as the storage does.
 */
export async function fetchWal(storage: Storage, wal: WalToFetch, path: string): Promise<boolean> {
  const { place, name, identities, signal } = wal;
  const stored = await findStored(storage, walKey(place, name), signal);
  if (!stored) {
    await requireArchive(storage, place, signal);
    return false;
  }
  const temporary = `${path}.${randomBytes(6).toString("hex")}.coppice`;
  try {
    const plain = await decodeWal(stored, identities, signal);
    await pipeline(plain, createWriteStream(temporary, { flags: "wx", mode: 0o600 }), { signal });
    if (wal.endLsn !== undefined && !(await cut(temporary, name, wal.endLsn))) return false;
    await rename(temporary, path);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    throw toDecodeFailure(error, walKey(place, name));
  } finally {
    await rm(temporary, { force: true });
  }
}

/** The stored bytes of a file; of a segment that is not there whole, of the longest part of it. */
async function findStored(storage: Storage, key: string, signal: AbortSignal) {
  try {
    return await storage.get(key, { signal });
  } catch (error) {
    if (!isFailure(error, "OBJECT_MISSING")) throw error;
  }
  // A name of 24 digits is a segment's; where each part ends is written so that the order of names is that of positions.
  if (!/\/[0-9A-F]{24}$/.test(key)) return undefined;
  const parts: string[] = [];
  for await (const object of storage.list(`${key}.partial.`, signal)) parts.push(object.key);
  const longest = parts.toSorted().at(-1);
  return longest === undefined ? undefined : await storage.get(longest, { signal });
}

/** A place without any WAL is not the archive: a disk is not mounted, for example. */
async function requireArchive(storage: Storage, place: WalPlace, signal: AbortSignal): Promise<void> {
  for await (const _object of storage.list(walPrefix(place), signal)) return;
  await requireClusterFile(storage, place.clusterId, signal);
}

/** Puts zeros behind the position; false when the file begins there or later. */
async function cut(path: string, name: string, endLsn: bigint): Promise<boolean> {
  const { size } = await stat(path);
  const file = parseWalFile(name, BigInt(size));
  if (file?.kind !== "segment") return true;
  if (file.startLsn >= endLsn) return false;
  const keptBytes = Number(endLsn - file.startLsn);
  if (keptBytes >= size) return true;
  await truncate(path, keptBytes);
  await using handle = await open(path, "r+");
  await handle.truncate(size);
  return true;
}
