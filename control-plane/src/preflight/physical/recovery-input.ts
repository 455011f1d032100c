import type { Database } from "../../catalog/catalog.ts";
import { listPhysicalCopies, type PhysicalCopy } from "../../catalog/physical/copies.ts";
import { listAnchors, listCommits, listExtents, listHistories } from "../../catalog/physical/wal-knowledge.ts";
import { parseTimelineHistory } from "../../recovery/timeline-history.ts";
import type { RecoveryInput } from "../../recovery/recovery-input.ts";

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
  const histories = await listHistories(db, server);
  const anchors = await listAnchors(db, server);
  const commits = await listCommits(db, server);
  return {
    systemIdentifier,
    segmentBytes,
    backups: copies.map((copy) => physicalBackup(copy)),
    extents: extents
      .filter(({ repositoryId }) => isUsable(repositoryId))
      .map(({ repositoryId, timeline, startLsn, endLsn }) => ({
        repository: repositoryId,
        systemIdentifier,
        timeline,
        startLsn,
        endLsn,
      })),
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

function physicalBackup(copy: PhysicalCopy): RecoveryInput["backups"][number] {
  const { id, repositoryId, systemIdentifier, parentId, isWalIncrement, restorePoint, startTime, endTime } = copy;
  const { complete, state, timeline, startLsn, stopLsn, walEmbedded, storedBytes } = copy;
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
    ...(restorePoint === "" ? {} : { restorePoint }),
    storedBytes,
  };
}

function microseconds(time: Date): bigint {
  return BigInt(time.getTime()) * 1000n;
}
