import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { parseObjectOwner, parseWalAnchor, type WalAnchor, walPrefix, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { addExtent, type WalExtent } from "../store/extent.ts";

/** What is to go of an archive. */
export interface UnneededWal {
  readonly place: WalPlace;
  readonly segmentBytes: bigint;
  /** None overlaps another. What lies in one only in part stays. */
  readonly runs: readonly WalExtent[];
  /** Files that stay wherever they lie. */
  readonly keptNames: ReadonlySet<string>;
}

/** Objects that go, by their keys. */
export interface FoundObjects {
  readonly keys: readonly string[];
  /** As stored. */
  readonly bytes: bigint;
}

/** What lies in an archive and can go. */
export interface FoundUnneeded {
  /** Of each run, in their order, what holds WAL of it, oldest first. */
  readonly runs: readonly FoundObjects[];
  /** What WAL that is. */
  readonly held: readonly WalExtent[];
  /** Parts of segments that are stored whole. */
  readonly parts: FoundObjects;
  readonly anchors: readonly string[];
  readonly claims: readonly string[];
}

interface ListedFile extends WalExtent {
  readonly key: string;
  readonly name: string;
  readonly bytes: bigint;
  readonly isWhole: boolean;
}

/** Finds by the names that lie in an archive what can go. Histories of timelines and of backups stay. Fails as the storage does. */
export async function findUnneeded(
  storage: Storage,
  { place, segmentBytes, runs, keptNames }: UnneededWal,
  signal: AbortSignal,
): Promise<FoundUnneeded> {
  const files: ListedFile[] = [];
  const claims: { readonly key: string; readonly name: string }[] = [];
  const anchors: { readonly key: string; readonly anchor: WalAnchor }[] = [];
  const whole = new Set<string>();
  for await (const { key, sizeBytes } of storage.list(walPrefix(place), signal)) {
    const anchor = parseWalAnchor(key);
    if (anchor) anchors.push({ key, anchor });
    const owner = parseObjectOwner(key);
    if (owner.is === "walClaim") claims.push({ key, name: owner.name });
    const extent = owner.is === "wal" ? extentOf(owner.name, segmentBytes) : undefined;
    if (!extent || owner.is !== "wal") continue;
    const { name } = owner;
    const isWhole = !name.includes(".");
    if (isWhole) whole.add(name);
    files.push({ ...extent, key, name, bytes: BigInt(sizeBytes), isWhole });
  }
  const isFree = (name: string) => !keptNames.has(name);
  const runOf = (file: WalExtent) => runs.findIndex((run) => isWithin(file, run));
  const isReplaced = ({ name, isWhole }: Pick<ListedFile, "name" | "isWhole">) =>
    !isWhole && /\.partial\.[0-9A-F]{16}$/.test(name) && whole.has(name.slice(0, 24));
  const going = files.filter((file) => isFree(file.name) && runOf(file) >= 0).toSorted(inOrder);
  const parts = files.filter((file) => isFree(file.name) && runOf(file) < 0 && isReplaced(file));
  const gone = new Set([...going, ...parts].map(({ name }) => name));
  const isClaimFree = (name: string) => {
    const extent = extentOf(name, segmentBytes);
    return gone.has(name) || (extent !== undefined && isFree(name) && runOf(extent) >= 0);
  };
  return {
    runs: runs.map((_, index) => found(going.filter((file) => runOf(file) === index))),
    held: going.reduce<WalExtent[]>(
      (extents, { timeline, startLsn, endLsn }) => addExtent(extents, { timeline, startLsn, endLsn }),
      [],
    ),
    parts: found(parts),
    anchors: unneededAnchors(anchors, runs),
    claims: claims.filter(({ name }) => isClaimFree(name)).map(({ key }) => key),
  };
}

/** The WAL that a file of that name holds; undefined of a history, and of what no archive of such segments has. */
function extentOf(name: string, segmentBytes: bigint): WalExtent | undefined {
  const file = parseWalFile(name, segmentBytes);
  if (file?.kind !== "segment" && file?.kind !== "partial") return undefined;
  const { timeline, startLsn } = file;
  // PostgreSQL's own name of a part does not tell where it ends.
  const endLsn = file.kind === "partial" ? file.endLsn : undefined;
  return { timeline, startLsn, endLsn: endLsn ?? startLsn + segmentBytes };
}

function isWithin(extent: WalExtent, run: WalExtent): boolean {
  return extent.timeline === run.timeline && extent.startLsn >= run.startLsn && extent.endLsn <= run.endLsn;
}

const found = (files: readonly ListedFile[]): FoundObjects => ({
  keys: files.map(({ key }) => key),
  bytes: files.reduce((sum, { bytes }) => sum + bytes, 0n),
});

function inOrder(one: WalExtent, other: WalExtent): number {
  return one.timeline - other.timeline || (one.startLsn < other.startLsn ? -1 : Number(one.startLsn > other.startLsn));
}

/**
 * Anchors before the end of what goes of their timeline. One with a time that is later than that of some which stay tells
 * that the clock was set back, and stays, too.
 */
function unneededAnchors(
  listed: readonly { readonly key: string; readonly anchor: WalAnchor }[],
  runs: readonly WalExtent[],
): string[] {
  const ends = new Map<number, bigint>();
  for (const { timeline, endLsn } of runs) if (endLsn > (ends.get(timeline) ?? 0n)) ends.set(timeline, endLsn);
  const isBefore = ({ timeline, lsn }: WalAnchor) => lsn < (ends.get(timeline) ?? 0n);
  const earliest = new Map<number, bigint>();
  for (const { anchor } of listed.filter((each) => !isBefore(each.anchor))) {
    const { timeline, timeUs } = anchor;
    if (timeUs < (earliest.get(timeline) ?? timeUs + 1n)) earliest.set(timeline, timeUs);
  }
  return listed
    .filter(({ anchor }) => isBefore(anchor) && anchor.timeUs < (earliest.get(anchor.timeline) ?? anchor.timeUs + 1n))
    .map(({ key }) => key);
}
