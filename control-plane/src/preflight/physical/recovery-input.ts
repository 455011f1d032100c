import type { Database } from "../../catalog/catalog.ts";
import { listPhysicalCopies } from "../../catalog/physical/copies.ts";
import { physicalBackup, provenWal } from "../../catalog/physical/recovery-backup.ts";
import { listAnchors, listCommits, listExtents, listHistories } from "../../catalog/physical/wal-knowledge.ts";
import { addRuns, removeRuns } from "@coppice/proto/kit/recovery/extents";
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
