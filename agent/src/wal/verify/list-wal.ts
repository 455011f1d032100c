import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { parseObjectOwner, walPrefix, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";

/** A segment of an archive by the object that recovery would read of it. */
export interface ListedSegment {
  readonly key: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  /** First position that it does not hold. */
  readonly endLsn: bigint;
}

/** What lies in an archive. */
export interface ListedWal {
  /** In the order of timeline and position. */
  readonly segments: readonly ListedSegment[];
  readonly histories: readonly { readonly key: string; readonly timeline: number }[];
  /** What no recovery by us reads: histories of backups, and parts under PostgreSQL's own name. */
  readonly others: readonly string[];
  /** Parts of segments of which there is more: nothing reads them any more. */
  readonly replaced: number;
}

/** Lists an archive by the names that lie there. Fails as the storage does. */
export async function listWal(
  storage: Storage,
  { place, segmentBytes, signal }: { place: WalPlace; segmentBytes: bigint; signal: AbortSignal },
): Promise<ListedWal> {
  const segments = new Map<string, ListedSegment & { readonly isWhole: boolean }>();
  const histories: { key: string; timeline: number }[] = [];
  const others: string[] = [];
  let replaced = 0;
  for await (const { key } of storage.list(walPrefix(place), signal)) {
    const owner = parseObjectOwner(key);
    const file = owner.is === "wal" ? parseWalFile(owner.name, segmentBytes) : undefined;
    if (file?.kind === "history") histories.push({ key, timeline: file.timeline });
    if (file?.kind === "backup") others.push(key);
    if (file?.kind !== "segment" && file?.kind !== "partial") continue;
    const isWhole = file.kind === "segment";
    const endLsn = isWhole ? file.startLsn + segmentBytes : file.endLsn;
    if (endLsn === undefined) {
      others.push(key);
      continue;
    }
    const { timeline, startLsn } = file;
    const id = `${timeline} ${startLsn}`;
    const other = segments.get(id);
    if (other) replaced++;
    if (other && (other.isWhole || (!isWhole && other.endLsn >= endLsn))) continue;
    segments.set(id, { key, timeline, startLsn, endLsn, isWhole });
  }
  const order = (one: ListedSegment, two: ListedSegment) =>
    one.timeline - two.timeline || (one.startLsn < two.startLsn ? -1 : Number(one.startLsn > two.startLsn));
  return {
    segments: [...segments.values()]
      .toSorted(order)
      .map(({ key, timeline, startLsn, endLsn }) => ({ key, timeline, startLsn, endLsn })),
    histories: histories.toSorted((one, two) => one.timeline - two.timeline),
    others: others.toSorted(),
    replaced,
  };
}
