import { fail } from "@coppice/proto/kit/failure";
import type { FoundBackup, FoundCluster } from "../catalog.ts";

function physicalOf({ manifest }: FoundBackup) {
  return manifest.content.case === "physical" ? manifest.content.value : undefined;
}

/**
 * The backups from the full one on that a physical backup of the cluster needs: of the named one, or of the newest that
 * has its WAL in it. Fails with BACKUP_NOT_FOUND, SELECTION_REFUSED for a dump, or BACKUP_CHAIN_BROKEN.
 */
export function chooseChain({ name, backups }: FoundCluster, wanted: string | undefined): FoundBackup[] {
  const newest =
    wanted === undefined
      ? backups.find((backup) => backup.manifest.complete && physicalOf(backup)?.walEmbedded)
      : backups.find(({ address }) => address.backupId === wanted);
  if (!newest)
    return fail(
      "BACKUP_NOT_FOUND",
      wanted === undefined
        ? `${name} has no physical backup with its WAL in it`
        : `${name} has no backup ${wanted} that can be read`,
      { hint: "coppice-agent ls" },
    );
  const chain: FoundBackup[] = [];
  for (let backup: FoundBackup | undefined = newest; backup;) {
    const content = physicalOf(backup);
    const { backupId } = backup.address;
    if (!content)
      return fail("SELECTION_REFUSED", `the backup ${backupId} is a dump, not a physical backup`, {
        hint: "restore it into a running server: --to",
      });
    chain.unshift(backup);
    const parentId: string = content.parentBackupId;
    if (parentId === "") return chain;
    backup = backups.find(({ address }) => address.backupId === parentId);
    if (!backup || chain.some(({ address }) => address.backupId === parentId))
      return fail("BACKUP_CHAIN_BROKEN", `the backup ${parentId}, which ${backupId} builds on, cannot be read`, {
        hint: "take another backup, see coppice-agent ls: --backup ID",
      });
  }
  return chain;
}
