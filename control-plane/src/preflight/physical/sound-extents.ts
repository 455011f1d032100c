import { type Extent, removeRuns } from "@coppice/proto/kit/recovery/extents";
import type { Database } from "../../catalog/catalog.ts";
import { listExtents } from "../../catalog/physical/wal-knowledge.ts";
import { toExtent } from "../../catalog/physical/wal-extent.ts";
import { listLost } from "../../catalog/physical/wal-lost.ts";

/** What is stored of a cluster's WAL and was not found to be lost, of one server or of all. */
export async function listSoundExtents(
  db: Database,
  of: { readonly clusterId: string; readonly systemIdentifier?: string },
): Promise<Extent[]> {
  const extents = await listExtents(db, of);
  const lost = await listLost(db, of);
  return removeRuns(extents.map(toExtent), lost.map(toExtent));
}
