import { join } from "node:path";
import type { Storage } from "../../storage/storage.ts";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { ArchiveIndex } from "../store/archive-index.ts";
import type { WalExtent } from "../store/extent.ts";
import { storeWal } from "../store/store-wal.ts";
import type { WalEncoding } from "../store/wal-codec.ts";
import { checkOffered, type ExpectedServer } from "./check-offered.ts";
import type { HeldStorage } from "./held-storage.ts";
import { openOffered } from "./offered-file.ts";

/** What offered files are stored with. */
export interface StoreOfferedOptions {
  readonly storage: HeldStorage;
  readonly index: ArchiveIndex;
  readonly place: WalPlace;
  readonly server: ExpectedServer;
  readonly encoding: WalEncoding;
  readonly signal: AbortSignal;
}

/** A file that is durable in the repository. */
export interface StoredFile {
  readonly name: string;
  readonly identity: string;
  /** What it adds to the archive; empty but for a segment. */
  readonly run: WalExtent;
  /** Of a timeline's history, what is written in it. */
  readonly history: { readonly timeline: number; readonly content: string } | undefined;
}

/**
 * Stores the file at a path under the name; it is durable, and in the index, when this resolves. Fails with WAL_FOREIGN,
 * TIMELINE_HISTORY_INVALID, WAL_CONFLICT, as the storage does, and as opening the file.
 */
export async function storeOffered(
  { path, name, uid }: { readonly path: string; readonly name: string; readonly uid: number | undefined },
  { storage, index, place, server, encoding, signal }: StoreOfferedOptions,
): Promise<StoredFile> {
  await using file = await openOffered(path, { uid });
  const parsed = checkOffered(name, file, server);
  const { sha256, identity, text } = file;
  const { timeline } = parsed;
  const startLsn = parsed.kind === "history" ? 0n : parsed.startLsn;
  const run = { timeline, startLsn, endLsn: parsed.kind === "segment" ? startLsn + server.segmentBytes : startLsn };
  await storage.use(async (opened) => {
    if (await isStored(opened, { place, name, sha256, index, signal })) return;
    const known = (one: string) => index.digestOf(one);
    await storeWal(opened, { place, name, read: file.read, sha256, encoding, known, signal });
  });
  if (index.digestOf(name) !== sha256) await index.add({ name, sha256, run });
  return { name, identity, run, history: parsed.kind === "history" ? { timeline, content: text } : undefined };
}

/** Whether the very bytes were stored before, and are there: what is asked for again is not sent again. */
async function isStored(
  storage: Storage,
  of: {
    readonly place: WalPlace;
    readonly name: string;
    readonly sha256: string;
    readonly index: ArchiveIndex;
    readonly signal: AbortSignal;
  },
): Promise<boolean> {
  if (of.index.digestOf(of.name) !== of.sha256) return false;
  return (await storage.stat(walKey(of.place, of.name), of.signal)) !== undefined;
}

/** Path of a file of WAL in a data directory. */
export function pgWalPath(dataDirectory: string, name: string): string {
  return join(dataDirectory, "pg_wal", name);
}
