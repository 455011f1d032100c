import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { fail } from "@coppice/proto/kit/failure";
import type { PhysicalBackup, RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import { parseTimelineHistory, type TimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { microsecondsOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { parseWalFile } from "@coppice/proto/kit/wal/segment";
import { parseObjectOwner, type WalPlace, walHistoryPrefix } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { listAnchors } from "../../wal/anchors/list-anchors.ts";
import { readWalText } from "../../wal/fetch/fetch-wal.ts";
import { listExtents } from "../../wal/store/list-extents.ts";
import type { FoundBackup, FoundCluster } from "../catalog.ts";

/** The one repository that there is, as the planner tells repositories apart. */
export const repositoryName = "repository";

function physicalOf({ manifest }: FoundBackup): PhysicalContent | undefined {
  return manifest.content.case === "physical" ? manifest.content.value : undefined;
}

/**
 * What a repository itself says of recovery of one server of a cluster: of the named backup's, else of the newest
 * physical one's. Of times it says those of backups and anchors, not those of commits; see findCommits. Fails with BACKUP_NOT_FOUND,
 * SELECTION_REFUSED for a dump, or as listExtents and readWal do.
 */
export async function readRecoveryInput(
  { storage, identities, signal }: { storage: Storage; identities: string | undefined; signal: AbortSignal },
  { id: clusterId, name, backups }: FoundCluster,
  wanted: string | undefined,
): Promise<RecoveryInput & { readonly place: WalPlace }> {
  const named = wanted === undefined ? undefined : backups.find(({ address }) => address.backupId === wanted);
  if (wanted !== undefined && !named)
    return fail("BACKUP_NOT_FOUND", `${name} has no backup ${wanted} that can be read`, { hint: "coppice-agent ls" });
  // Folders are named by the clock of a control plane; each backup says itself when it ended.
  const newest =
    named ??
    backups
      .filter((backup) => physicalOf(backup))
      .toSorted(byEnd)
      .at(-1);
  if (!newest) return fail("BACKUP_NOT_FOUND", `${name} has no physical backup`, { hint: "coppice-agent ls" });
  const content = physicalOf(newest);
  if (!content)
    return fail("SELECTION_REFUSED", `the backup ${wanted} is a dump, not a physical backup`, {
      hint: "restore it into a running server: coppice-agent restore",
    });
  const { systemIdentifier } = newest.manifest;
  const segmentBytes = content.walSegmentBytes;
  const place: WalPlace = { clusterId, systemIdentifier };
  const extents = await listExtents(storage, { place, segmentBytes, signal });
  return {
    place,
    systemIdentifier,
    segmentBytes,
    backups: backups.flatMap((backup) => {
      const physical = physicalOf(backup);
      return physical ? [toPlanned(backup, physical)] : [];
    }),
    extents: extents.map((extent) => ({ ...extent, repository: repositoryName, systemIdentifier })),
    histories: await readHistories({ storage, identities, signal }, place, segmentBytes),
    anchors: await listAnchors(storage, place, signal),
    ...(wanted === undefined ? {} : { backup: wanted }),
  };
}

function byEnd({ manifest: one }: FoundBackup, { manifest: other }: FoundBackup): number {
  const [end, otherEnd] = [one, other].map(({ endTime }) => (endTime ? microsecondsOf(endTime) : 0n));
  return Number((end ?? 0n) - (otherEnd ?? 0n));
}

function toPlanned({ manifest, storedBytes }: FoundBackup, content: PhysicalContent): PhysicalBackup {
  const { backupId, systemIdentifier, complete, startTime, endTime } = manifest;
  const { parentBackupId, method, timeline, startLsn, stopLsn, walEmbedded, fromStandby, restorePoint } = content;
  return {
    id: backupId,
    repository: repositoryName,
    systemIdentifier,
    method: parentBackupId === "" ? "full" : method === IncrementalMethod.WAL ? "wal" : "native",
    ...(parentBackupId === "" ? {} : { parent: parentBackupId }),
    complete,
    state: "STORED",
    timeline,
    startLsn: parseLsn(startLsn),
    stopLsn: parseLsn(stopLsn),
    startTimeUs: timeOf(startTime, backupId),
    stopTimeUs: timeOf(endTime, backupId),
    walEmbedded,
    fromStandby,
    ...(restorePoint === "" ? {} : { restorePoint }),
    storedBytes,
  };
}

function timeOf(time: Timestamp | undefined, backupId: string): bigint {
  return time ? microsecondsOf(time) : fail("MANIFEST_UNREADABLE", `the manifest of ${backupId} lacks its times`);
}

async function readHistories(
  { storage, identities, signal }: { storage: Storage; identities: string | undefined; signal: AbortSignal },
  place: WalPlace,
  segmentBytes: bigint,
): Promise<TimelineHistory[]> {
  const histories: TimelineHistory[] = [];
  for await (const { key } of storage.list(walHistoryPrefix(place), signal)) {
    const owner = parseObjectOwner(key);
    const file = owner.is === "wal" ? parseWalFile(owner.name, segmentBytes) : undefined;
    if (owner.is !== "wal" || file?.kind !== "history") continue;
    const content = await readWalText(storage, { place, name: owner.name, identities, signal });
    if (content !== undefined) histories.push(parseTimelineHistory(file.timeline, content));
  }
  return histories;
}
