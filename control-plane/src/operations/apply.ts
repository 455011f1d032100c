import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { ClusterFile } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { type BackupManifest, BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { Database } from "../catalog/catalog.ts";
import { deleteCopy, insertBackup, markDeleting, noteVerification } from "../catalog/outcome/backup.ts";
import { noteClusterFound, noteClusterSeen, noteRole } from "../catalog/outcome/cluster.ts";
import { noteClusterTried, noteRepositoryTried } from "../catalog/outcome/reachability.ts";
import { lockWal } from "../catalog/physical/wal-archive.ts";
import { noteDeleted, noteFound } from "../catalog/physical/wal-deleted.ts";
import { addExtents, addKnowledge } from "../catalog/physical/wal-knowledge.ts";
import { noteLost } from "../catalog/physical/wal-lost.ts";
import type { CatalogChange, StoredBackup, WalPlace, WalRun } from "./kinds/catalog-change.ts";

/** Writes what an operation has brought to light, within the transaction of its new state. */
export async function applyChanges(
  tx: Database,
  operationId: string,
  changes: readonly CatalogChange[],
): Promise<void> {
  for (const change of changes) await applyChange(tx, operationId, change);
}

async function applyChange(tx: Database, operationId: string, change: CatalogChange): Promise<void> {
  switch (change.is) {
    case "clusterFound":
      return await noteClusterFound(tx, found(change.file));
    case "backupStored":
      return await storeBackup(tx, operationId, change.backup);
    case "copyVerified":
      return await noteVerification(tx, change);
    case "walVerified":
      await noteLost(tx, placeOf(change), { runs: change.lost, replaces: change.isThorough });
      // What was to be deleted, and is there all the same, counts again.
      if (change.isThorough) await noteWalFound(tx, change, change.sound);
      return;
    case "walDeleting":
      return await noteDeleted(tx, placeOf(change), change.runs);
    case "walFound":
      return await noteWalFound(tx, change, change.runs);
    case "walScanned":
      return await noteWalScanned(tx, change);
    case "copyDeleting":
      return await markDeleting(tx, change.backupId, change.repositoryId);
    case "copyDeleted":
      return await deleteCopy(tx, change.backupId, change.repositoryId);
    case "clusterSeen":
      return await noteClusterSeen(tx, change, seen(change.facts));
    case "clusterTried":
      return await noteClusterTried(tx, change, change.problem);
    case "roleSeen":
      return await noteRole(tx, change, change.role);
    case "repositoryTried":
      return await noteRepositoryTried(tx, change.repositoryId, change.problem);
  }
}

function placeOf({ clusterId, repositoryId, systemIdentifier }: WalPlace): WalPlace {
  return { clusterId, repositoryId, systemIdentifier };
}

async function noteWalFound(tx: Database, place: WalPlace, runs: readonly WalRun[]): Promise<void> {
  // A cluster or repository that is gone has no WAL.
  if (runs.length > 0 && (await lockWal(tx, place))) await noteFound(tx, placeOf(place), runs);
}

async function noteWalScanned(tx: Database, change: Extract<CatalogChange, { is: "walScanned" }>): Promise<void> {
  if (!(await lockWal(tx, change))) return;
  const { clusterId, systemIdentifier, repositoryId, runs, anchors, histories } = change;
  const server = { clusterId, systemIdentifier };
  await addExtents(tx, server, repositoryId, runs);
  await addKnowledge(tx, server, { anchors, histories, commits: [] });
}

async function storeBackup(tx: Database, operationId: string, stored: StoredBackup): Promise<void> {
  const { id, clusterId, repositoryId, folder, manifest, manifestSha256, storedBytes, recipe } = stored;
  await insertBackup(
    tx,
    {
      id,
      clusterId,
      ...contentColumns(manifest),
      complete: manifest.complete,
      defaultDatabases: stored.defaultDatabases,
      startTime: dateOf(manifest.startTime),
      endTime: dateOf(manifest.endTime),
      storedBytes,
      serverVersionNum: manifest.serverVersionNum,
      operationId,
      manifest: toJson(BackupManifestSchema, manifest),
      recipe,
    },
    { backupId: id, repositoryId, folder, state: "STORED", manifestSha256 },
  );
}

function contentColumns({ kind, content, systemIdentifier }: BackupManifest) {
  if (content.case !== "physical") {
    const databases = content.case === "dump" ? content.value.databases : [];
    return { kind: "DUMP", databaseBytes: databases.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n) } as const;
  }
  const { dataBytes, timeline, startLsn, stopLsn, walEmbedded, parentBackupId } = content.value;
  return {
    kind: kind === BackupKind.INCREMENTAL ? "INCREMENTAL" : "FULL",
    databaseBytes: dataBytes,
    parentId: parentBackupId === "" ? null : parentBackupId,
    systemIdentifier,
    timeline,
    startLsn: parseLsn(startLsn),
    stopLsn: parseLsn(stopLsn),
    walEmbedded,
  } as const;
}

function found({ clusterId, name, incarnations }: ClusterFile) {
  return {
    id: clusterId,
    name,
    incarnations: incarnations.map(({ systemIdentifier, major, firstSeenTime }) => ({
      systemIdentifier,
      major,
      firstSeenTime: dateOf(firstSeenTime),
    })),
  };
}

function dateOf(time: Timestamp | undefined): Date {
  if (time === undefined) throw new TypeError("a manifest lacks its times");
  return timestampDate(time);
}

function seen(facts: ClusterFacts) {
  return {
    systemIdentifier: facts.systemIdentifier,
    serverVersionNum: facts.serverVersionNum,
    role: facts.inRecovery ? "STANDBY" : "PRIMARY",
    dataDirectory: facts.isLocal ? facts.dataDirectory : "",
    databases: facts.databases.map(({ name, sizeBytes, allowConnections }) => ({
      name,
      sizeBytes: sizeBytes ?? null,
      allowConnections,
    })),
  } as const;
}
