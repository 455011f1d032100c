import { addRuns } from "@coppice/proto/kit/recovery/extents";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { Database } from "../../catalog/catalog.ts";
import type { PhysicalCopy } from "../../catalog/physical/copies.ts";
import { listExtents } from "../../catalog/physical/wal-knowledge.ts";
import { provenWal } from "./recovery-input.ts";

/**
 * Why the WAL in the repository of a backup does not go on from its end, as far as the catalog knows: there is later WAL,
 * and some between is missing for good. Undefined where nothing is known to be missing; the archive may be behind.
 */
export async function walGapAfter(
  db: Database,
  { clusterId, parent, copies }: { clusterId: string; parent: PhysicalCopy; copies: readonly PhysicalCopy[] },
): Promise<string | undefined> {
  const { repositoryId: repository, systemIdentifier, timeline, stopLsn } = parent;
  const told = await listExtents(db, { clusterId, systemIdentifier });
  const all = addRuns(
    told.map(({ repositoryId, ...extent }) => ({ ...extent, repository: repositoryId })),
    copies.flatMap((copy) => provenWal(copy)),
  );
  const own = all.filter(
    (extent) =>
      extent.repository === repository && extent.systemIdentifier === systemIdentifier && extent.timeline === timeline,
  );
  const end = own.find((extent) => extent.startLsn <= stopLsn && extent.endLsn >= stopLsn)?.endLsn ?? stopLsn;
  const later = own.find(({ startLsn }) => startLsn > end);
  return later === undefined
    ? undefined
    : `the archive lacks WAL from ${formatLsn(end)} to ${formatLsn(later.startLsn)}, after the end of its parent ${parent.id}`;
}
