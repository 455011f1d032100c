import type { Extent } from "@coppice/proto/kit/recovery/extents";
import type { WalExtentRow } from "./wal-knowledge.ts";

/** A row of the catalog as the kit knows it. */
export function toExtent(row: Omit<WalExtentRow, "clusterId">): Extent {
  const { repositoryId, systemIdentifier, timeline, startLsn, endLsn } = row;
  return { repository: repositoryId, systemIdentifier, timeline, startLsn, endLsn };
}
