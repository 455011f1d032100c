import type { Readable } from "node:stream";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { formatLinks } from "../content/links-text.ts";
import type { RecordLinks } from "../content/record-links.ts";
import { claimWal } from "./claim.ts";
import { storedDigest } from "./stored-digest.ts";
import { encryptWal } from "./wal-codec.ts";

/** A file of WAL to store. */
export interface WalToStore {
  readonly place: WalPlace;
  /** As walKey takes it. */
  readonly name: string;
  /** Number of its plain bytes, or more. */
  readonly plainBytes: number;
  /** Its bytes, compressed by zstd; called once. */
  readonly compressed: () => Readable | Promise<Readable>;
  /** Gives the SHA-256 of its plain bytes, lower-case hexadecimal; called where what is stored has to be told apart by it. */
  readonly sha256: () => Promise<string>;
  /** Of a whole segment: what ties it to those beside it. */
  readonly links?: RecordLinks | undefined;
  /** age recipients; empty means not encrypted. */
  readonly recipients: readonly string[];
  /** The digest of the plain bytes that this agent knows to have stored under the name. */
  readonly known: (name: string) => string | undefined;
  readonly signal: AbortSignal;
}

/**
 * Stores a file of WAL, and the digest of its plain bytes and its links with it where the storage keeps digests, or it is
 * encrypted; it is durable when this resolves. One of the name that is there is never overwritten: with the same plain
 * bytes it is a success, else, or where that cannot be told, it fails with WAL_CONFLICT. Other failures are the storage's.
 */
export async function storeWal(storage: Storage, wal: WalToStore): Promise<void> {
  const { recipients, signal } = wal;
  const key = walKey(wal.place, wal.name);
  // What is sure by its own condition, and can be read back or has its digest beside it, needs no claim.
  const { putIfAbsent, putIfAbsentBytes, keepsDigests } = storage.capabilities;
  const mostBytes = storedAtMost(wal.plainBytes);
  const isSure = putIfAbsent && mostBytes <= putIfAbsentBytes;
  const isClaimed = !isSure || (recipients.length > 0 && !keepsDigests);
  try {
    // Before anything of the body is read: who holds memory for a body must not wait for memory for its claim.
    if (isClaimed) await claim(storage, wal);
    const contentSha256 = keepsDigests ? { contentSha256: await wal.sha256() } : {};
    const contentNote = keepsDigests && wal.links ? { contentNote: formatLinks(wal.links) } : {};
    const body = await encryptWal(await wal.compressed(), recipients, signal);
    await storage.put(key, body, {
      signal,
      ifAbsent: true,
      mostBytes,
      // What was compressed or encrypted here is nobody else's.
      ownsChunks: true,
      ...contentSha256,
      ...contentNote,
    });
  } catch (error) {
    if (!isFailure(error, "OBJECT_EXISTS")) throw error;
    await requireSame(storage, key, wal, error);
  }
}

/** What neither zstd nor age, with some dozens of recipients, makes larger. */
function storedAtMost(plainBytes: number): number {
  return plainBytes + Math.ceil(plainBytes / 64) + (1 << 16);
}

async function claim(storage: Storage, { place, name, sha256, links, signal }: WalToStore): Promise<void> {
  await claimWal(storage, { place, name, sha256: await sha256(), links, signal });
}

async function requireSame(storage: Storage, key: string, wal: WalToStore, cause: Failure): Promise<void> {
  const present = wal.known(wal.name) ?? (await digestOfStored(storage, key, wal, cause));
  if (present !== (await wal.sha256()))
    throw new Failure("WAL_CONFLICT", `${storage.name} holds other bytes under ${key} than the server gave`, {
      metadata: { key },
      cause,
    });
}

/** The digest of what lies there. What this host cannot decrypt or may not read it must not call the same. */
async function digestOfStored(storage: Storage, key: string, wal: WalToStore, cause: Failure): Promise<string> {
  const { signal } = wal;
  try {
    return await storedDigest(storage, wal);
  } catch (error) {
    signal.throwIfAborted();
    const cannotTell = isFailure(error, "IDENTITY_MISSING") || isFailure(error, "REPOSITORY_NOT_READABLE");
    if (!cannotTell) throw error;
    throw new Failure("WAL_CONFLICT", `${key} is there already, and whether it holds the same cannot be told here`, {
      metadata: { key },
      hint: "compare it on a host that may decrypt it; nothing was overwritten",
      cause,
    });
  }
}
