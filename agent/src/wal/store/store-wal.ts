import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { decodeWal, encodeWal, toDecodeFailure, type WalEncoding } from "./wal-codec.ts";

/** A file of WAL to store. */
export interface WalToStore {
  readonly place: WalPlace;
  /** As walKey takes it. */
  readonly name: string;
  /** Its plain bytes; called once. */
  readonly read: () => Readable;
  /** SHA-256 of its plain bytes, lower-case hexadecimal. */
  readonly sha256: string;
  readonly encoding: WalEncoding;
  /** The digest of the plain bytes that this agent knows to have stored under the name. */
  readonly known: (name: string) => string | undefined;
  readonly signal: AbortSignal;
}

/**
 * Stores a file of WAL; it is durable when this resolves. One of the name that is there is never overwritten: with the
 * same plain bytes it is a success, else, or where that cannot be told, it fails with WAL_CONFLICT. Other failures are
 * the storage's.
 */
export async function storeWal(storage: Storage, wal: WalToStore): Promise<void> {
  const key = walKey(wal.place, wal.name);
  try {
    const body = await encodeWal(wal.read(), wal.encoding, wal.signal);
    await storage.put(key, body, { signal: wal.signal, ifAbsent: true });
  } catch (error) {
    if (!isFailure(error, "OBJECT_EXISTS")) throw error;
    await requireSame(storage, key, wal, error);
  }
}

async function requireSame(storage: Storage, key: string, wal: WalToStore, cause: Failure): Promise<void> {
  const present = wal.known(wal.name) ?? (await digestOfStored(storage, key, wal.signal, cause));
  if (present !== wal.sha256)
    throw new Failure("WAL_CONFLICT", `${storage.name} holds other bytes under ${key} than the server gave`, {
      metadata: { key },
      cause,
    });
}

/** Reads back what lies there. What this host cannot decrypt or may not read it must not call the same. */
async function digestOfStored(storage: Storage, key: string, signal: AbortSignal, cause: Failure): Promise<string> {
  try {
    const hash = createHash("sha256");
    const plain = await decodeWal(await storage.get(key, { signal }), undefined, signal);
    for await (const chunk of plain as AsyncIterable<Buffer>) hash.update(chunk);
    return hash.digest("hex");
  } catch (error) {
    signal.throwIfAborted();
    const cannotTell = isFailure(error, "IDENTITY_MISSING") || isFailure(error, "REPOSITORY_NOT_READABLE");
    if (!cannotTell) throw toDecodeFailure(error, key);
    throw new Failure("WAL_CONFLICT", `${key} is there already, and whether it holds the same cannot be told here`, {
      metadata: { key },
      hint: "compare it on a host that may decrypt it; nothing was overwritten",
      cause,
    });
  }
}
