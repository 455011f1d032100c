import { open, rename, rm, stat, truncate } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { addAbortSignal, type Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { isSegmentName, parseWalFile } from "@coppice/proto/kit/wal/segment";
import { requireClusterFile } from "../../repository/cluster-file.ts";
import { walKey, type WalPlace, walPrefix } from "../../repository/layout.ts";
import { findSegment } from "../../repository/wal/find-segment.ts";
import type { Storage } from "../../storage/storage.ts";
import { chunkSize, decodeWal, toDecodeFailure } from "../store/wal-codec.ts";

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
 * with zeros behind. False when the archive surely has no such file. Fails with CONTENT_UNREADABLE, IDENTITY_MISSING, IDENTITY_WRONG,
 * PROGRAM_FAILED where it cannot be decrypted, and as the storage does.
 */
export async function fetchWal(storage: Storage, wal: WalToFetch, path: string): Promise<boolean> {
  const { place, name, identities, signal } = wal;
  const stored = await findStored(storage, wal);
  if (!stored) {
    await requireArchive(storage, place, signal);
    return false;
  }
  const temporary = `${path}.${randomBytes(6).toString("hex")}.coppice`;
  try {
    const plain = await decodeWal(stored, identities, signal);
    await writePlain(temporary, plain, signal);
    if (wal.endLsn !== undefined && !(await cutWal(temporary, name, wal.endLsn))) return false;
    await rename(temporary, path);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    throw asSpaceFailure(toDecodeFailure(error, walKey(place, name)), name);
  } finally {
    await rm(temporary, { force: true });
  }
}

/**
 * The plain bytes of a file of WAL, of a segment that was never stored whole what there is of it; undefined when the
 * archive has no such file. Fails as fetchWal does, the stream itself with what toDecodeFailure knows.
 */
export async function readWal(storage: Storage, wal: WalToFetch): Promise<Readable | undefined> {
  const stored = await findStored(storage, wal);
  return stored && (await decodeWal(stored, wal.identities, wal.signal));
}

/** A small file of WAL as text, such as the history of a timeline; undefined as readWal. Fails as fetchWal does. */
export async function readWalText(storage: Storage, wal: WalToFetch): Promise<string | undefined> {
  const plain = await readWal(storage, wal);
  try {
    return plain && (await text(plain));
  } catch (error) {
    wal.signal.throwIfAborted();
    throw toDecodeFailure(error, walKey(wal.place, wal.name));
  }
}

/**
 * Writes what decodeWal gives into a new file. A buffer that it has filled is freed at once: left to the garbage collector,
 * those of a few segments a second come to a hundred megabytes.
 */
async function writePlain(path: string, plain: Readable, signal: AbortSignal): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  let filled: ArrayBufferLike | undefined;
  for await (const chunk of addAbortSignal(signal, plain) as AsyncIterable<Buffer>) {
    // Pieces come in order, and each buffer is a decoder's own.
    if (chunk.buffer !== filled && filled instanceof ArrayBuffer && filled.byteLength === chunkSize) filled.transfer(0);
    filled = chunk.buffer;
    for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
  }
}

/** In the words that the server's log has for it, which it goes into. */
function asSpaceFailure(error: unknown, name: string): unknown {
  const code = !isFailure(error) && error instanceof Error && "code" in error ? error.code : undefined;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  const why = code === "ENOSPC" ? "No space left on device" : "Disk quota exceeded";
  return new Failure("SPACE_MISSING", `there was no room for ${name}: ${why}`, { cause: error });
}

/** The stored bytes of a file; of a segment that is not there whole, of the longest part of it. */
async function findStored(storage: Storage, { place, name, signal }: WalToFetch) {
  const key = walKey(place, name);
  try {
    return await storage.get(key, { signal });
  } catch (error) {
    if (!isFailure(error, "OBJECT_MISSING")) throw error;
  }
  if (!isSegmentName(name)) return undefined;
  const { part } = await findSegment(storage, key, signal);
  return part && (await storage.get(part.key, { signal }));
}

/** A place without any WAL is not the archive: a disk is not mounted, for example. */
async function requireArchive(storage: Storage, place: WalPlace, signal: AbortSignal): Promise<void> {
  for await (const _object of storage.list(walPrefix(place), signal)) return;
  await requireClusterFile(storage, place.clusterId, signal);
}

/** Puts zeros behind the position; false when the file begins there or later. */
export async function cutWal(path: string, name: string, endLsn: bigint): Promise<boolean> {
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
