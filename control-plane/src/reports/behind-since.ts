import { recordEnd } from "@coppice/proto/kit/wal/record-end";
import type { WalArchiveRow, WalPositions } from "../catalog/physical/wal-archive.ts";

type Told = Pick<WalPositions, "segmentBytes" | "storedLsn" | "serverLsn" | "serverTime">;

/**
 * Since when, by the server's clock, an archive was not told to hold all that its server wrote; null while it was told so, or
 * nothing is known. `isBegun`: nothing was told of it before, in this place and on this timeline.
 */
export function behindSince(known: Pick<WalArchiveRow, "behindTime">, told: Told, isBegun: boolean): Date | null {
  const { segmentBytes, storedLsn, serverLsn, serverTime } = told;
  const before = isBegun ? null : known.behindTime;
  if (serverTime === null || serverLsn === null || segmentBytes === null) return before;
  if (storedLsn !== null && recordEnd(serverLsn, segmentBytes) <= storedLsn) return null;
  // A clock that was set back counts from then on.
  return before === null || serverTime < before ? serverTime : before;
}
