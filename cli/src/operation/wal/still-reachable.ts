import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { type Backup, CopyState } from "@coppice/proto/gen/coppice/control/v1/backup";
import type { RecoveryWindow } from "@coppice/proto/gen/coppice/control/v1/cluster";
import type { Api } from "../../client/api.ts";
import { collectPages } from "../../client/pages.ts";
import { formatRelative } from "../../output/elapsed.ts";
import { instantOf, timeOf } from "../../output/time.ts";

/** What recovery can reach, a line for each timeline. */
export function describeWindows(windows: readonly RecoveryWindow[]): string[] {
  return windows.map(({ timeline, startLsn, endLsn, startTime, endTime, gaps }) => {
    const from = instantOf(startTime) ?? startLsn;
    const to = instantOf(endTime) ?? endLsn;
    const holes = gaps.map((gap) => `${gap.startLsn} to ${gap.endLsn}`).join(", ");
    return `recovery can reach ${from} to ${to} on timeline ${timeline}${holes ? `, without ${holes}` : ""}`;
  });
}

/** After WAL was found damaged: what can be reached without it. */
export async function windowsLeft(api: Api, cluster: string): Promise<string[]> {
  const { windows } = await api.clusters.getRecoveryWindow({ cluster });
  return windows.length === 0 ? ["no point in time can be recovered by archived WAL"] : describeWindows(windows);
}

const mostBackups = 1000;

/** After a backup was found damaged: the nearest good ones of its cluster that do not need it, before and after it. */
export async function backupsLeft(api: Api, id: string, now: Date): Promise<string[]> {
  const damaged = await api.backups.getBackup({ backup: id });
  const { items } = await collectPages(
    (page) => api.backups.listBackups({ page, cluster: damaged.cluster }),
    ({ backups }) => backups,
    mostBackups,
  );
  const isDump = damaged.kind === BackupKind.DUMP;
  const byId = new Map(items.map((backup) => [backup.id, backup]));
  const good = items.filter(
    (backup) => (backup.kind === BackupKind.DUMP) === isDump && backup.id !== id && isWhole(backup, byId, id),
  );
  const at = timeOf(damaged.startTime)?.getTime() ?? 0;
  const startOf = (backup: Backup) => timeOf(backup.startTime)?.getTime() ?? 0;
  // Newest first, as they are listed.
  const before = good.find((backup) => startOf(backup) <= at);
  const after = good.findLast((backup) => startOf(backup) > at);
  const describe = (backup: Backup) => `${backup.id} of ${formatRelative(timeOf(backup.startTime), now)}`;
  if (!before && !after)
    return [`there is no other good ${isDump ? "dump" : "physical backup"} of ${damaged.clusterName}`];
  return [
    ...(before ? [`good before it: ${describe(before)}`] : []),
    ...(after ? [`good after it: ${describe(after)}`] : []),
  ];
}

/** Whether it and everything that it builds on is there and good, and the damaged one not among them. */
function isWhole(backup: Backup, byId: ReadonlyMap<string, Backup>, damaged: string): boolean {
  for (let one: Backup | undefined = backup; ; one = byId.get(one.parent)) {
    if (!one || one.id === damaged || !one.complete) return false;
    if (!one.copies.some(({ state }) => state === CopyState.STORED)) return false;
    if (one.parent === "") return true;
  }
}
