import { WalMode } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import type { WalArchive } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { slotName } from "@coppice/proto/kit/wal/slot-name";

/**
 * What to add where a cluster's endpoint was changed: when that is another server, nobody comes back to the one before for
 * its slot. Empty where no WAL is received.
 */
export function describeLeftSlot({ cluster, settings }: Pick<WalArchive, "cluster" | "settings">): string {
  if (settings === undefined || settings.mode === WalMode.PUSH) return "";
  const slot = slotName(settings.slot, cluster);
  return `; if that is another server, the one before keeps WAL for the slot ${slot} until it is dropped there`;
}
