import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { Extent } from "@coppice/proto/kit/recovery/extents";
import type { PhysicalBackup } from "@coppice/proto/kit/recovery/recovery-input";
import type { PhysicalCopy } from "./copies.ts";

/** What was read in the archive before a backup counted is there, whatever agents have reported since or before. */
export function provenWal(copy: PhysicalCopy): Extent[] {
  const { repositoryId, systemIdentifier, timeline, startLsn, stopLsn, segmentBytes } = copy;
  const { walEmbedded, complete, state } = copy;
  if (walEmbedded || !complete || state !== "STORED") return [];
  const start = segmentStart(startLsn, segmentBytes);
  return [{ repository: repositoryId, systemIdentifier, timeline, startLsn: start, endLsn: stopLsn }];
}

/** A row of the catalog as the kit knows it. */
export function physicalBackup(copy: PhysicalCopy): PhysicalBackup {
  const { id, repositoryId, systemIdentifier, parentId, isWalIncrement, restorePoint, startTime, endTime } = copy;
  const { complete, state, timeline, startLsn, stopLsn, walEmbedded, fromStandby, storedBytes } = copy;
  return {
    id,
    repository: repositoryId,
    systemIdentifier,
    method: parentId === null ? "full" : isWalIncrement ? "wal" : "native",
    ...(parentId === null ? {} : { parent: parentId }),
    complete,
    state,
    timeline,
    startLsn,
    stopLsn,
    startTimeUs: microseconds(startTime),
    stopTimeUs: microseconds(endTime),
    walEmbedded,
    fromStandby,
    ...(restorePoint === "" ? {} : { restorePoint }),
    storedBytes,
  };
}

function microseconds(time: Date): bigint {
  return BigInt(time.getTime()) * 1000n;
}
