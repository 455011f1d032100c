import type { Extent } from "@coppice/proto/kit/recovery/extents";
import { coverage } from "@coppice/proto/kit/recovery/reach";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { leadsThrough, timelinePath } from "@coppice/proto/kit/recovery/timeline-path";
import type { Database } from "../catalog.ts";
import { listPhysicalCopies } from "./copies.ts";
import type { WalArchiveRow } from "./wal-archive.ts";
import { listExtents, listHistories } from "./wal-knowledge.ts";

/** WAL that is missing in an archive, behind which no backup begins: nothing that is archived after it can be reached. */
export interface WalGap {
  readonly timeline: number;
  readonly startLsn: bigint;
  /** First position after it. */
  readonly endLsn: bigint;
  /** Whether there is a good full backup of the server at all. */
  readonly isBackedUp: boolean;
}

/**
 * The last gap on the way to the archive's end that no good backup begins behind; undefined when there is none. Segments
 * are stored several at once: what comes behind the position that is stored without a hole is not known to be a gap yet.
 */
export async function findWalGap(db: Database, archive: WalArchiveRow): Promise<WalGap | undefined> {
  const { clusterId, repositoryId, systemIdentifier, timeline, segmentBytes, storedLsn } = archive;
  if (timeline === null || segmentBytes === null || storedLsn === null) return undefined;
  const server = { clusterId, systemIdentifier };
  const rows = (await listExtents(db, server)).filter((row) => row.repositoryId === repositoryId);
  if (rows.length < 2) return undefined;
  const histories = (await listHistories(db, server)).map((row) => parseTimelineHistory(row.timeline, row.content));
  const path = timelinePath(histories, timeline);
  const extents = rows.map((row): Extent => ({ ...row, repository: repositoryId }));
  const [before, behind] = coverage({ systemIdentifier, segmentBytes, extents }, path, repositoryId).slice(-2);
  if (before === undefined || behind === undefined || storedLsn <= behind.startLsn) return undefined;
  const good = (await listPhysicalCopies(db, clusterId)).filter(
    (copy) => copy.systemIdentifier === systemIdentifier && copy.complete && copy.state === "STORED",
  );
  const isBehind = good.some(
    (copy) => copy.startLsn >= behind.startLsn && leadsThrough(path, copy.timeline, copy.startLsn),
  );
  if (isBehind) return undefined;
  return {
    timeline,
    startLsn: before.endLsn,
    endLsn: behind.startLsn,
    isBackedUp: good.some(({ parentId }) => parentId === null),
  };
}
