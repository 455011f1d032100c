import { fail } from "@coppice/proto/kit/failure";
import type { PathPiece } from "@coppice/proto/kit/recovery/timeline-path";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import { findSegment } from "../../repository/wal/find-segment.ts";
import type { Storage } from "../../storage/storage.ts";

/** WAL that has to be there. */
export interface RequiredWal {
  readonly place: WalPlace;
  readonly fromLsn: bigint;
  readonly endLsn: bigint;
  readonly segmentBytes: bigint;
  /** Where recovery goes: what lies on another timeline is of no use to it. */
  readonly path: readonly PathPiece[];
  readonly signal: AbortSignal;
}

/**
 * Makes sure that the archive has a file for everything between two positions. A server that finds none takes it for the
 * end of WAL, and says nothing. Fails with WAL_MISSING, and as the storage does.
 */
export async function requireWal(storage: Storage, wal: RequiredWal): Promise<void> {
  const { fromLsn, endLsn, segmentBytes } = wal;
  for (let startLsn = segmentStart(fromLsn, segmentBytes); startLsn < endLsn; startLsn += segmentBytes) {
    const reached = await reachOf(storage, wal, startLsn);
    const end = startLsn + segmentBytes < endLsn ? startLsn + segmentBytes : endLsn;
    if (reached >= end) continue;
    fail("WAL_MISSING", `${storage.name} lacks WAL from ${formatLsn(reached)} to ${formatLsn(end)}, which was stored`, {
      hint: "choose a target before it; `coppice backup create CLUSTER --kind full --wal embedded` leads on behind it",
    });
  }
}

/** Timelines of the path whose file of that segment a server would read, the one that it tries first in front. */
export function timelinesOf(path: readonly PathPiece[], startLsn: bigint, segmentBytes: bigint): number[] {
  return path
    .filter((piece) => segmentStart(piece.startLsn, segmentBytes) <= startLsn)
    .filter(({ endLsn }) => endLsn === undefined || startLsn < endLsn)
    .map(({ timeline }) => timeline)
    .toReversed();
}

/** How far a segment is there, on the timeline that has most of it. */
async function reachOf(storage: Storage, wal: RequiredWal, startLsn: bigint): Promise<bigint> {
  const { place, segmentBytes, path, signal } = wal;
  let reached = startLsn;
  for (const timeline of timelinesOf(path, startLsn, segmentBytes)) {
    const name = segmentName(timeline, startLsn, segmentBytes);
    const { isWhole, part } = await findSegment(storage, walKey(place, name), signal);
    if (isWhole) return startLsn + segmentBytes;
    if (part && part.endLsn > reached) reached = part.endLsn;
  }
  return reached;
}
