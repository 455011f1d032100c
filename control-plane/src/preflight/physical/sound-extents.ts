import { type Extent, removeRuns } from "@coppice/proto/kit/recovery/extents";
import type { Database } from "../../catalog/catalog.ts";
import { listExtents } from "../../catalog/physical/wal-knowledge.ts";
import { listLost, type WalLostRow } from "../../catalog/physical/wal-lost.ts";

/** A row of the catalog as the kit knows it. */
export function toExtent({ repositoryId, systemIdentifier, timeline, startLsn, endLsn }: WalLostRow): Extent {
  return { repository: repositoryId, systemIdentifier, timeline, startLsn, endLsn };
}

/** What is stored of a cluster's WAL and was not found to be lost, of one server or of all. */
export async function listSoundExtents(
  db: Database,
  of: { readonly clusterId: string; readonly systemIdentifier?: string },
): Promise<Extent[]> {
  const extents = await listExtents(db, of);
  const lost = await listLost(db, of);
  return removeRuns(extents.map(toExtent), lost.map(toExtent));
}
