import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { archivedWalProblem } from "@coppice/proto/kit/wal/archived-wal";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { isSegmentSize } from "@coppice/proto/kit/wal/segment";

/** What a physical backup holds; undefined of anything else. */
export function physicalOf({ content }: BackupManifest): PhysicalContent | undefined {
  return content.case === "physical" ? content.value : undefined;
}

/**
 * Why a manifest cannot be that of a physical backup that can be restored; undefined of one that can. Its positions can
 * be parsed then.
 */
export function physicalProblem(manifest: BackupManifest): string | undefined {
  const physical = physicalOf(manifest);
  if (physical === undefined) return "its manifest is not that of a physical backup";
  if (!manifest.startTime || !manifest.endTime) return "its manifest lacks its times";
  if (!/^\d{1,20}$/.test(manifest.systemIdentifier)) return "its manifest lacks the system identifier";
  const { startLsn, stopLsn, timeline, walSegmentBytes, parentBackupId } = physical;
  const [start, stop] = [position(startLsn), position(stopLsn)];
  if (start === undefined || stop === undefined || start > stop || stop === 0n) {
    return `it reaches from ${JSON.stringify(startLsn)} to ${JSON.stringify(stopLsn)}, which is no stretch of WAL`;
  }
  if (timeline === 0) return "its manifest lacks the timeline";
  if (!isSegmentSize(walSegmentBytes)) return `its WAL segments have ${walSegmentBytes} bytes`;
  if ((manifest.kind === BackupKind.INCREMENTAL) !== (parentBackupId !== "")) {
    return parentBackupId === "" ? "it is incremental and names no parent" : "it is not incremental and has a parent";
  }
  if (manifest.kind !== BackupKind.FULL && manifest.kind !== BackupKind.INCREMENTAL) {
    return `its kind is ${BackupKind[manifest.kind]}`;
  }
  return contentProblem(manifest.kind, physical);
}

function contentProblem(kind: BackupKind, physical: PhysicalContent): string | undefined {
  const { base, backupManifest, backupManifestSha256, tablespaces, wal, walEmbedded, method } = physical;
  // Of a WAL increment all that counts is in the archive.
  if (kind === BackupKind.INCREMENTAL && method === IncrementalMethod.WAL) {
    return incrementProblem(physical) ?? unnamedWal(physical);
  }
  if (!base?.objects.length) return "it has no archive of the data directory";
  if (!backupManifest?.objects.length) return "it lacks PostgreSQL's backup_manifest";
  if (!/^[0-9a-f]{64}$/.test(backupManifestSha256)) return "its backup_manifest has no digest";
  const empty = tablespaces.find(({ stream }) => !stream?.objects.length);
  if (empty) return `it has no archive of the tablespace ${empty.oid}`;
  if (walEmbedded) return wal?.objects.length ? undefined : "its WAL is embedded, and no archive of it is there";
  return unnamedWal(physical);
}

function incrementProblem({ walEmbedded, restorePoint, startLsn, parentStopLsn }: PhysicalContent): string | undefined {
  if (walEmbedded) return "it is a WAL increment with embedded WAL";
  if (restorePoint === "") return "it is a WAL increment without a restore point";
  return startLsn === parentStopLsn ? undefined : "it is a WAL increment that does not go on where its parent ends";
}

/** Bytes of the files of the archive that hold a backup's WAL, as stored. */
export function archivedWalBytes({ archivedWal }: PhysicalContent): bigint {
  return archivedWal.flatMap(({ objects }) => objects).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n);
}

function unnamedWal(physical: PhysicalContent): string | undefined {
  const problem = archivedWalProblem(
    physical.archivedWal.map(({ objects }) => objects[0]?.key.split("/").at(-1) ?? ""),
    {
      timeline: physical.timeline,
      startLsn: parseLsn(physical.startLsn),
      stopLsn: parseLsn(physical.stopLsn),
      segmentBytes: physical.walSegmentBytes,
    },
  );
  return problem === undefined ? undefined : `it does not name all WAL that it needs: ${problem}`;
}

function position(text: string): bigint | undefined {
  return /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(text) ? parseLsn(text) : undefined;
}
