import { addRuns, type Extent, findGaps } from "@coppice/proto/kit/recovery/extents";
import { coverage } from "@coppice/proto/kit/recovery/reach";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { timelinePath } from "@coppice/proto/kit/recovery/timeline-path";
import type { Database } from "../../catalog/catalog.ts";
import type { WalArchiveRow } from "../../catalog/physical/wal-archive.ts";
import { listHistories } from "../../catalog/physical/wal-knowledge.ts";

/**
 * What is missing between runs of a cluster's WAL: of each timeline, and of what is archived now also along the way from the
 * timelines before, up to where each of them was left.
 */
export async function listArchiveGaps(
  db: Database,
  extents: readonly Extent[],
  archive: WalArchiveRow | undefined,
): Promise<Extent[]> {
  const within = findGaps(extents);
  if (archive === undefined || archive.timeline === null || archive.segmentBytes === null) return within;
  const { clusterId, repositoryId: repository, systemIdentifier, timeline, segmentBytes } = archive;
  const histories = await listHistories(db, { clusterId, systemIdentifier });
  const path = timelinePath(
    histories.map((row) => parseTimelineHistory(row.timeline, row.content)),
    timeline,
  );
  const stretches = coverage({ systemIdentifier, segmentBytes, extents }, path, repository);
  const across = stretches.slice(1).flatMap(({ startLsn: endLsn }, index) => {
    const startLsn = stretches[index]?.endLsn ?? endLsn;
    return path
      .map((piece) => ({
        repository,
        systemIdentifier,
        timeline: piece.timeline,
        startLsn: startLsn > piece.startLsn ? startLsn : piece.startLsn,
        endLsn: piece.endLsn !== undefined && piece.endLsn < endLsn ? piece.endLsn : endLsn,
      }))
      .filter((gap) => gap.startLsn < gap.endLsn);
  });
  return addRuns(within, across);
}
