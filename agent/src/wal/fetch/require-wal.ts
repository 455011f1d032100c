import { fail } from "@coppice/proto/kit/failure";
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
  /** It may be on any of these. */
  readonly timelines: readonly number[];
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

/** How far a segment is there, on the timeline that has most of it. */
async function reachOf(storage: Storage, wal: RequiredWal, startLsn: bigint): Promise<bigint> {
  const { place, segmentBytes, timelines, signal } = wal;
  let reached = startLsn;
  for (const timeline of timelines) {
    const name = segmentName(timeline, startLsn, segmentBytes);
    const { isWhole, part } = await findSegment(storage, walKey(place, name), signal);
    if (isWhole) return startLsn + segmentBytes;
    if (part && part.endLsn > reached) reached = part.endLsn;
  }
  return reached;
}
