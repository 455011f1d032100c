import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { slotName } from "@coppice/proto/kit/wal/slot-name";

/** Name of the physical slot that keeps a cluster's WAL in mode stream. */
export function slotOf({ settings, clusterId }: Pick<WalArchive, "settings" | "clusterId">): string {
  return slotName(settings?.slot ?? "", clusterId);
}
