import { join } from "node:path";
import type { Storage } from "../../storage/storage.ts";
import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { CommitRun } from "../content/commit-times.ts";
import type { Press } from "../press/press.ts";
import { lookIfAllowed } from "../../storage/look-if-allowed.ts";
import type { ArchiveIndex } from "../store/archive-index.ts";
import type { GrantCheck } from "../store/grant.ts";
import type { WalExtent } from "../store/extent.ts";
import { storeWal } from "../store/store-wal.ts";
import type { WalEncoding } from "../store/wal-codec.ts";
import { checkOffered, type ExpectedServer } from "./check-offered.ts";
import type { HeldStorage } from "./held-storage.ts";
import { openOffered } from "./offered-file.ts";

/** What offered files are stored with. */
export interface StoreOfferedOptions {
  readonly storage: HeldStorage;
  readonly grant: GrantCheck;
  readonly index: ArchiveIndex;
  readonly place: WalPlace;
  readonly server: ExpectedServer;
  readonly encoding: WalEncoding;
  readonly press: Press;
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
  /** Of a segment, when transactions in it ended. */
  readonly commits: readonly CommitRun[];
}

/**
 * Stores the file at a path under the name; it is durable, and in the index, when this resolves. Fails with WAL_FOREIGN,
 * TIMELINE_HISTORY_INVALID, WAL_CONFLICT, WAL_NOT_GRANTED, as the storage does, and as opening the file.
 */
export async function storeOffered(
  { path, name, uid }: { readonly path: string; readonly name: string; readonly uid: number | undefined },
  { storage, grant, index, place, server, encoding, press, signal }: StoreOfferedOptions,
): Promise<StoredFile> {
  const { segmentBytes } = server;
  const named = parseWalFile(name, segmentBytes);
  const segment =
    named?.kind === "segment" ? { timeline: named.timeline, startLsn: named.startLsn, segmentBytes } : undefined;
  await using file = await openOffered(path, { uid, press, segment });
  const parsed = checkOffered(name, file, server);
  const { sha256, identity, text } = file;
  const { timeline } = parsed;
  const startLsn = parsed.kind === "history" ? 0n : parsed.startLsn;
  const run = { timeline, startLsn, endLsn: parsed.kind === "segment" ? startLsn + segmentBytes : startLsn };
  await storage.use(async (opened) => {
    await grant.require(opened, signal);
    if (await isStored(opened, { place, name, sha256, index, signal })) return;
    const known = (one: string) => index.digestOf(one);
    const { level, recipients } = encoding;
    const compressed = () => file.compressed(level);
    await storeWal(opened, { place, name, compressed, sha256, recipients, known, signal });
  });
  if (index.digestOf(name) !== sha256) await index.add({ name, sha256, run });
  const history = parsed.kind === "history" ? { timeline, content: text } : undefined;
  return { name, identity, run, history, commits: file.commits };
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
  // Who may not look goes by what it knows to have stored.
  return (await lookIfAllowed(storage, () => storage.stat(walKey(of.place, of.name), of.signal))) !== undefined;
}

/** Path of a file of WAL in a data directory. */
export function pgWalPath(dataDirectory: string, name: string): string {
  return join(dataDirectory, "pg_wal", name);
}
