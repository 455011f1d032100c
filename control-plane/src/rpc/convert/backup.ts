import { create, fromJson } from "@bufbuild/protobuf";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import {
  type Backup,
  BackupSchema,
  CopyState,
  type PhysicalBackup,
  PhysicalBackupSchema,
} from "@coppice/proto/gen/coppice/control/v1/backup";
import { type BackupManifest, BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { missingConfiguration } from "@coppice/proto/kit/repository/missing-configuration";
import type { BackupCopyRow, BackupRecord } from "../../catalog/backup.ts";
import type { BrokenChain } from "../../catalog/physical/broken-chain.ts";
import { archivedWalBytes } from "../../operations/kinds/physical-manifest.ts";
import { formatEtag } from "../etag.ts";
import { times } from "./times.ts";

/** What the catalog knows about backups besides their records: names by id. */
export interface BackupFacts {
  readonly clusterNames: ReadonlyMap<string, string>;
  readonly repositoryNames: ReadonlyMap<string, string>;
  readonly brokenChains: readonly BrokenChain[];
}

export function backupMessage({ row, copies }: BackupRecord, facts: BackupFacts): Backup {
  const manifest = fromJson(BackupManifestSchema, row.manifest, { ignoreUnknownFields: true });
  const dump = manifest.content.case === "dump" ? manifest.content.value : undefined;
  const physical = manifest.content.case === "physical" ? manifest.content.value : undefined;
  return create(BackupSchema, {
    id: row.id,
    etag: formatEtag(row.version),
    cluster: row.clusterId,
    clusterName: facts.clusterNames.get(row.clusterId) ?? "",
    kind: BackupKind[row.kind],
    complete: row.complete,
    copies: copies.map((copy) => ({
      repository: copy.repositoryId,
      repositoryName: facts.repositoryNames.get(copy.repositoryId) ?? "",
      state: CopyState[copy.state],
      folder: copy.folder,
      problem: copy.problem,
      retentionReason: copy.retentionReason,
      chainProblem: facts.brokenChains.find((one) => isOf(one, copy))?.problem ?? "",
      ...times({ verifyTime: copy.verifyTime }),
      ...(copy.pinReason === null ? {} : { pin: { reason: copy.pinReason, ...times({ untilTime: copy.pinUntil }) } }),
    })),
    databaseBytes: row.databaseBytes,
    storedBytes: row.storedBytes,
    databases: databases(manifest),
    missing: dump?.missing ?? [],
    operation: row.operationId,
    serverVersionNum: row.serverVersionNum,
    parent: row.parentId ?? "",
    ...(dump?.options ? { dump: dump.options } : {}),
    format: dump?.databases[0]?.format ?? "",
    codec: (dump?.globals ?? physical?.base ?? physical?.archivedWal[0])?.codec || "none",
    recipients: manifest.recipients,
    fromStandby: (dump ?? physical)?.fromStandby ?? false,
    ...(physical ? { physical: physicalBackup(manifest, physical) } : {}),
    ...times({ createTime: row.createTime, startTime: row.startTime, endTime: row.endTime }),
  });
}

const isOf = (one: BrokenChain, { backupId, repositoryId }: BackupCopyRow) =>
  one.backupId === backupId && one.repositoryId === repositoryId;

function physicalBackup({ systemIdentifier }: BackupManifest, physical: PhysicalContent): PhysicalBackup {
  const { timeline, startLsn, stopLsn, walEmbedded, corruptPages, fullReason, fromStandby, options } = physical;
  const { method, restorePoint } = physical;
  return create(PhysicalBackupSchema, {
    systemIdentifier,
    timeline,
    startLsn,
    stopLsn,
    walEmbedded,
    corruptPages,
    fullReason,
    fromStandby,
    method,
    restorePoint,
    walBytes: archivedWalBytes(physical),
    missingConfiguration: missingConfiguration(physical),
    ...(options ? { options } : {}),
  });
}

function databases({ content }: BackupManifest) {
  if (content.case !== "dump") return [];
  return content.value.databases.map(({ name, sizeBytes, stream, snapshotLsn, snapshotTime }) => ({
    name,
    sizeBytes,
    storedBytes: (stream?.objects ?? []).reduce((sum, object) => sum + object.sizeBytes, 0n),
    snapshotLsn,
    ...(snapshotTime === undefined ? {} : { snapshotTime }),
  }));
}
