import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";

/** Name of the physical slot that keeps a cluster's WAL in mode stream. */
export function slotOf({ settings, clusterId }: Pick<WalArchive, "settings" | "clusterId">): string {
  return settings?.slot || `coppice_${clusterId.toLowerCase().replace(/[^a-z0-9_]/g, "_")}`;
}
