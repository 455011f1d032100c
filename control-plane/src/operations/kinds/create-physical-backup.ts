import { create } from "@bufbuild/protobuf";
import {
  BackupPhysicalCommandSchema,
  type BackupPhysicalResult,
} from "@coppice/proto/gen/coppice/agent/v1/backup_physical";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import {
  CreatedPhysicalBackupSchema,
  type CreatePhysicalBackupSpec,
} from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { missingConfiguration } from "@coppice/proto/kit/repository/missing-configuration";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { archivedWalBytes, physicalOf, physicalProblem } from "./physical-manifest.ts";
import {
  addressOfBackup,
  digestProblem,
  failedBackupChanges,
  foreignProblem,
  leftOfBackup,
  serverNeeds,
  storedBackupChanges,
} from "./stored-backup.ts";

/** A physical backup. It has succeeded when its manifest is stored, which comes after all the WAL that it needs. */
export const createPhysicalBackup = defineKind({
  spec: "createPhysicalBackup",
  command: "backupPhysical",
  retriesAfterLoss: 2,
  settle: "look",
  mayLeave: leftOfBackup,
  isHeavy: true,
  // What is stored is looked at before it counts, which credentials that only put may not.
  references: ({ cluster, instance, standby, repository, parent, walRepository }) => ({
    ...serverNeeds({ cluster, instance, standby }),
    repositoryId: repository,
    ...(parent === "" ? {} : { chain: [{ backupId: parent, repositoryId: repository }] }),
    ...(walRepository === "" ? {} : { walRepositoryId: walRepository }),
    purposes: ["write", "read"],
  }),
  plan(spec, facts) {
    const { connection, name, systemIdentifier } = required(facts.cluster);
    const [parent] = facts.chain ?? [];
    return create(BackupPhysicalCommandSchema, {
      connection,
      backup: addressOfBackup(spec, facts),
      clusterName: name,
      expectedSystemIdentifier: systemIdentifier,
      clusterFileExpected: required(facts.storedClusters).includes(spec.cluster),
      knownClusters: [...required(facts.storedClusters)],
      incremental: spec.kind === BackupKind.INCREMENTAL,
      ...(parent ? { parent: parent.address } : {}),
      ...(facts.walRepository ? { walRepository: facts.walRepository } : {}),
      ...(spec.options ? { options: spec.options } : {}),
      fullReason: spec.fullReason,
    });
  },
  apply(spec, { result, failure }) {
    if (result === undefined) return { failure, changes: failedBackupChanges(spec, failure) };
    const { manifest, storedBytes } = result;
    const problem = findProblem(spec, result);
    const physical = manifest && physicalOf(manifest);
    if (manifest === undefined || physical === undefined || problem !== undefined) {
      return invalidAnswer(`the agent reported a backup that cannot be the one that was asked for: ${problem}`);
    }
    const { dataBytes, startLsn, stopLsn, fullReason, parentBackupId, corruptPages, method } = physical;
    return {
      result: {
        case: "createdPhysicalBackup",
        value: create(CreatedPhysicalBackupSchema, {
          backup: spec.backup,
          kind: manifest.kind,
          dataBytes,
          storedBytes,
          startLsn,
          stopLsn,
          fullReason,
          parent: parentBackupId,
          corruptPages,
          method,
          walBytes: archivedWalBytes(physical),
          missingConfiguration: missingConfiguration(physical),
        }),
      },
      failure,
      changes: storedBackupChanges(spec, result, { manifest, defaultDatabases: true }),
    };
  },
});

/** Nothing is half of it: a physical backup that lacks something is none. */
function findProblem(
  spec: CreatePhysicalBackupSpec,
  { manifest, manifestSha256 }: BackupPhysicalResult,
): string | undefined {
  if (manifest === undefined) return "it has no manifest";
  const foreign = foreignProblem(spec, manifest);
  if (foreign !== undefined) return foreign;
  if (!manifest.complete) return "its manifest does not say that it is complete";
  const physical = physicalOf(manifest);
  const problem = physicalProblem(manifest);
  if (problem !== undefined || physical === undefined) return problem;
  if (manifest.kind === BackupKind.INCREMENTAL && spec.kind !== BackupKind.INCREMENTAL) return "it is incremental";
  if (physical.parentBackupId !== "" && physical.parentBackupId !== spec.parent) {
    return `its parent is ${physical.parentBackupId}`;
  }
  const isByWal = physical.method === IncrementalMethod.WAL;
  if (manifest.kind === BackupKind.INCREMENTAL && isByWal !== (spec.options?.method === IncrementalMethod.WAL)) {
    return isByWal ? "it is a WAL increment" : "it is no WAL increment";
  }
  if (manifest.kind !== spec.kind && physical.fullReason === "") return "it is a full, and nothing says why";
  if (physical.walEmbedded !== (spec.options?.walEmbedded ?? false)) {
    return physical.walEmbedded ? "its WAL is embedded" : "its WAL is not embedded";
  }
  if (spec.standby !== undefined && spec.standby !== physical.fromStandby) {
    return `it was taken of a ${physical.fromStandby ? "standby" : "primary"}`;
  }
  if (physical.corruptPages && !spec.options?.acceptCorrupt) return "it has pages whose checksums failed";
  return digestProblem({ manifestSha256 });
}
