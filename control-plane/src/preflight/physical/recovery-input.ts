import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { Database } from "../../catalog/catalog.ts";
import { listPhysicalCopies, type PhysicalCopy } from "../../catalog/physical/copies.ts";
import { listAnchors, listCommits, listExtents, listHistories } from "../../catalog/physical/wal-knowledge.ts";
import { addRuns, type Extent, removeRuns } from "@coppice/proto/kit/recovery/extents";
import { listLost } from "../../catalog/physical/wal-lost.ts";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import type { RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import { toExtent } from "../../catalog/physical/wal-extent.ts";

/**
 * What the catalog knows of recovery of one server of a cluster: of the backup that is named, else of the newest one.
 * Undefined when there is no physical backup to tell.
 */
export async function readRecoveryInput(
  db: Database,
  {
    clusterId,
    backupId = "",
    isUsable = () => true,
  }: {
    readonly clusterId: string;
    readonly backupId?: string;
    /** Whether a repository's content can be read where it is needed. */
    readonly isUsable?: (repositoryId: string) => boolean;
  },
): Promise<RecoveryInput | undefined> {
  const all = await listPhysicalCopies(db, clusterId);
  const newest = backupId === "" ? all.at(-1) : all.find(({ id }) => id === backupId);
  if (newest === undefined) return undefined;
  const { systemIdentifier, segmentBytes } = newest;
  const copies = all.filter((copy) => copy.systemIdentifier === systemIdentifier && isUsable(copy.repositoryId));
  const server = { clusterId, systemIdentifier };
  const extents = await listExtents(db, server);
  const lost = await listLost(db, server);
  const histories = await listHistories(db, server);
  const anchors = await listAnchors(db, server);
  const commits = await listCommits(db, server);
  return {
    systemIdentifier,
    segmentBytes,
    backups: copies.map((copy) => physicalBackup(copy)),
    extents: removeRuns(
      addRuns(
        extents.filter(({ repositoryId }) => isUsable(repositoryId)).map(toExtent),
        copies.flatMap((copy) => provenWal(copy)),
      ),
      lost.map(toExtent),
    ),
    histories: histories.map(({ timeline, content }) => parseTimelineHistory(timeline, content)),
    anchors: anchors.map(({ timeline, timeUs, lsn }) => ({ timeline, timeUs, lsn })),
    commits: commits.map(({ timeline, startLsn, endLsn, earliestUs, latestUs }) => ({
      timeline,
      startLsn,
      endLsn,
      ...(earliestUs === null || latestUs === null ? {} : { times: { earliestUs, latestUs } }),
    })),
    ...(backupId === "" ? {} : { backup: backupId }),
  };
}

/** What was read in the archive before a backup counted is there, whatever agents have reported since or before. */
export function provenWal(copy: PhysicalCopy): Extent[] {
  const { repositoryId, systemIdentifier, timeline, startLsn, stopLsn, segmentBytes } = copy;
  const { walEmbedded, complete, state } = copy;
  if (walEmbedded || !complete || state !== "STORED") return [];
  const start = segmentStart(startLsn, segmentBytes);
  return [{ repository: repositoryId, systemIdentifier, timeline, startLsn: start, endLsn: stopLsn }];
}

/** A row of the catalog as the kit knows it. */
export function physicalBackup(copy: PhysicalCopy): RecoveryInput["backups"][number] {
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
