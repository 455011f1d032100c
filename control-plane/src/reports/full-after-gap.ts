import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { findPhysicalBackupWork } from "../catalog/physical/recent-work.ts";
import { findWalArchive, lockWal, type WalArchiveRow } from "../catalog/physical/wal-archive.ts";
import { findWalGap, type WalGap } from "../catalog/physical/wal-gap.ts";
import { startOperation } from "../operations/start.ts";
import { preparePhysicalBackup } from "../preflight/physical/backup.ts";
import type { SeenGaps } from "./seen-gaps.ts";

/** Who asks for what nobody asked for. */
const principal = "system";
/** A full backup takes time and room: one that did not help is not followed by another at once. */
const pauseMs = 6 * 3_600_000;

/**
 * Starts a full backup where the archive of a cluster's WAL has a gap that no backup leads on behind, and gives the
 * operation's id; undefined where there is nothing to do. A cluster without a full backup gets none: nobody has asked
 * for one yet. It begins when the same gap has been seen for long enough, waits while a physical backup is under way, and
 * for six hours after it has started one, whatever came of that. Errors: those of preparePhysicalBackup.
 */
export async function startFullAfterGap(
  catalog: Catalog,
  clusterId: string,
  { seen, now }: { readonly seen: SeenGaps; readonly now: Date },
): Promise<string | undefined> {
  const archive = await findWalArchive(catalog.db, clusterId);
  // Most of the time there is none, and no lock is needed to see it.
  const found = archive && (await neededFor(catalog.db, archive, now));
  if (!seen.note(clusterId, archive && found && nameOf(archive, found), now) || archive === undefined) return undefined;
  return await catalog.transaction(async (tx) => {
    if (!(await lockWal(tx, archive))) return undefined;
    const present = await findWalArchive(tx, clusterId);
    const gap = present && (await neededFor(tx, present, now));
    return present && gap && (await start(tx, present, gap, now));
  });
}

function nameOf({ repositoryId, systemIdentifier }: WalArchiveRow, { timeline, startLsn, endLsn }: WalGap): string {
  return [repositoryId, systemIdentifier, timeline, startLsn, endLsn].join(" ");
}

async function neededFor(db: Database, archive: WalArchiveRow, now: Date): Promise<WalGap | undefined> {
  if (archive.trouble !== null) return undefined;
  const gap = await findWalGap(db, archive);
  if (gap === undefined || !gap.isBackedUp) return undefined;
  const since = new Date(now.getTime() - pauseMs);
  const work = await findPhysicalBackupWork(db, { clusterId: archive.clusterId, principalId: principal, since });
  return work.length === 0 ? gap : undefined;
}

async function start(
  tx: Database,
  { clusterId, repositoryId }: WalArchiveRow,
  { timeline, startLsn, endLsn }: WalGap,
  now: Date,
): Promise<string> {
  const request = { cluster: clusterId, repository: repositoryId, kind: BackupKind.FULL } as const;
  const { operationId, backups, ...prepared } = await preparePhysicalBackup(tx, request, now);
  const missing = `WAL from ${formatLsn(startLsn)} to ${formatLsn(endLsn)} of timeline ${timeline} is not archived`;
  const reason = `${missing}: what comes after it can be recovered from a backup behind it alone`;
  if (prepared.spec.case === "createPhysicalBackup") prepared.spec.value.reason = reason;
  const { id } = await startOperation(tx, {
    ...prepared,
    id: operationId,
    backupIds: backups,
    principalId: principal,
    requestId: "",
    call: { principal, tokenId: null, action: "full backup after a gap", request: { reason }, peerAddress: "" },
  });
  return id;
}
