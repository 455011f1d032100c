import { join } from "node:path";
import type { Storage } from "../../storage/storage.ts";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { CommitRun } from "../content/commit-times.ts";
import type { Press } from "../press/press.ts";
import { lookIfAllowed } from "../../storage/look-if-allowed.ts";
import type { ArchiveIndex } from "../store/archive-index.ts";
import { canCompare } from "../store/can-compare.ts";
import type { GrantCheck } from "../store/grant.ts";
import type { Follow } from "../set-back/follow.ts";
import { isWithin, type WalExtent } from "../store/extent.ts";
import { storeWal } from "../store/store-wal.ts";
import type { WalEncoding } from "../store/wal-codec.ts";
import { checkOffered, type ExpectedServer } from "./check-offered.ts";
import type { HeldStorage } from "./held-storage.ts";
import { type OfferedFile, openOffered } from "./offered-file.ts";

/** What offered files are stored with. */
export interface StoreOfferedOptions {
  readonly storage: HeldStorage;
  readonly grant: GrantCheck;
  readonly index: ArchiveIndex;
  readonly follow: Follow;
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
  { storage, grant, index, follow, place, server, encoding, press, signal }: StoreOfferedOptions,
): Promise<StoredFile> {
  const { segmentBytes } = server;
  const named = parseWalFile(name, segmentBytes);
  const segment =
    named?.kind === "segment" ? { timeline: named.timeline, startLsn: named.startLsn, segmentBytes } : undefined;
  await using file = await openOffered(path, { uid, press, segment });
  const parsed = checkOffered(name, file, server);
  const { identity, text, links } = file;
  const { timeline } = parsed;
  const startLsn = parsed.kind === "history" ? 0n : parsed.startLsn;
  const run = { timeline, startLsn, endLsn: parsed.kind === "segment" ? startLsn + segmentBytes : startLsn };
  const { level, recipients } = encoding;
  const sha256 = await storage.use(async (opened) => {
    await grant.require(opened, signal);
    const isCompared = parsed.kind === "segment" && canCompare(opened, recipients);
    const digest = isCompared ? undefined : await file.sha256();
    if (await isStored(opened, { file, place, name, index, signal })) return digest;
    const known = (one: string) => index.digestOf(one);
    const compressed = () => file.compressed(level);
    const plainBytes = file.sizeBytes;
    const tied = { links: segment && links, sha256: file.sha256 };
    const wal = { place, name, plainBytes, compressed, ...tied, recipients, known, signal };
    const store = () => storeWal(opened, wal);
    await (segment ? follow.storing({ run, links, partSha256: file.partSha256 }, store) : store());
    return digest;
  });
  const isNoted = sha256 === undefined ? isWithin(index.extents, run) : index.digestOf(name) === sha256;
  if (!isNoted || (segment && !index.linksOf(run))) await index.add({ name, sha256, run, links: segment && links });
  const history = parsed.kind === "history" ? { timeline, content: text } : undefined;
  if (history) follow.grewOutOf(timeline, parseTimelineHistory(timeline, text).ancestors);
  return { name, identity, run, history, commits: file.commits };
}

/** Whether the very bytes were stored before, and are there: what is asked for again is not sent again. */
async function isStored(
  storage: Storage,
  of: {
    readonly file: Pick<OfferedFile, "sha256">;
    readonly place: WalPlace;
    readonly name: string;
    readonly index: ArchiveIndex;
    readonly signal: AbortSignal;
  },
): Promise<boolean> {
  const known = of.index.digestOf(of.name);
  if (known === undefined || known !== (await of.file.sha256())) return false;
  // Who may not look goes by what it knows to have stored.
  return (await lookIfAllowed(storage, () => storage.stat(walKey(of.place, of.name), of.signal))) !== undefined;
}

/** Path of a file of WAL in a data directory. */
export function pgWalPath(dataDirectory: string, name: string): string {
  return join(dataDirectory, "pg_wal", name);
}
