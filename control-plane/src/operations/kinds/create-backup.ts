import { create } from "@bufbuild/protobuf";
import { BackupDumpCommandSchema, type BackupDumpResult } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { CreatedBackupSchema, type CreateBackupSpec } from "@coppice/proto/gen/coppice/control/v1/operation";
import { type BackupManifest, MissingReason } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { isWholeCluster, isWholeOfDatabases } from "@coppice/proto/kit/repository/default-set";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import {
  addressOfBackup,
  digestProblem,
  failedBackupChanges,
  foreignProblem,
  leftOfBackup,
  serverNeeds,
  storedBackupChanges,
} from "./stored-backup.ts";

/** A dump. It has succeeded when its manifest is stored and says that everything asked for is in it. */
export const createBackup = defineKind({
  spec: "createBackup",
  command: "backupDump",
  retriesAfterLoss: 2,
  settle: "look",
  mayLeave: leftOfBackup,
  isHeavy: true,
  // What is stored is looked at before it counts, which credentials that only put may not.
  references: ({ cluster, instance, standby, repository }) => ({
    ...serverNeeds({ cluster, instance, standby }),
    repositoryId: repository,
    purposes: ["write", "read"],
  }),
  plan(spec, facts) {
    const { connection, name, systemIdentifier } = required(facts.cluster);
    return create(BackupDumpCommandSchema, {
      connection,
      backup: addressOfBackup(spec, facts),
      clusterName: name,
      expectedSystemIdentifier: systemIdentifier,
      clusterFileExpected: required(facts.storedClusters).includes(spec.cluster),
      knownClusters: [...required(facts.storedClusters)],
      ...(spec.dump ? { options: spec.dump } : {}),
    });
  },
  apply(spec, { result, failure }) {
    if (result === undefined) return { failure, changes: failedBackupChanges(spec, failure) };
    const { manifest, storedBytes } = result;
    const problem = findProblem(spec, result);
    if (manifest === undefined || problem !== undefined) {
      return invalidAnswer(`the agent reported a backup that cannot be the one that was asked for: ${problem}`);
    }
    const databaseBytes = databasesOf(manifest).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n);
    return {
      result: {
        case: "createdBackup",
        value: create(CreatedBackupSchema, {
          backup: spec.backup,
          databases: databasesOf(manifest).length,
          databaseBytes,
          storedBytes,
          complete: manifest.complete,
        }),
      },
      failure: failure ?? (manifest.complete ? undefined : incomplete(manifest)),
      changes: storedBackupChanges(spec, result, { manifest, defaultDatabases: isDefaultSet(spec, result) }),
    };
  },
});

function databasesOf({ content }: BackupManifest) {
  return content.case === "dump" ? content.value.databases : [];
}

function findProblem(
  spec: CreateBackupSpec,
  { manifest, manifestSha256, facts }: BackupDumpResult,
): string | undefined {
  if (manifest === undefined) return "it has no manifest";
  const foreign = foreignProblem(spec, manifest);
  if (foreign !== undefined) return foreign;
  if (manifest.kind !== BackupKind.DUMP || manifest.content.case !== "dump")
    return "its manifest is not that of a dump";
  if (spec.standby !== undefined && facts && facts.inRecovery !== spec.standby) {
    return `it was taken of a ${facts.inRecovery ? "standby" : "primary"}`;
  }
  if (!manifest.startTime || !manifest.endTime) return "its manifest lacks its times";
  const lacks = manifest.content.value.missing.find(({ reason }) => isLack(reason));
  if (manifest.complete && lacks)
    return `its manifest says that it is complete and lacks ${JSON.stringify(lacks.name)}`;
  return digestProblem({ manifestSha256 });
}

/** What was left out on request, or dropped meanwhile, is not lacking. */
function isLack(reason: MissingReason): boolean {
  return reason !== MissingReason.EXCLUDED && reason !== MissingReason.DROPPED;
}

function incomplete({ content }: BackupManifest) {
  const missing = content.case === "dump" ? content.value.missing.filter(({ reason }) => isLack(reason)) : [];
  const which = missing.length === 0 ? "" : `: ${missing.map(({ name }) => JSON.stringify(name)).join(", ")}`;
  return failureToDetail(
    new Failure("BACKUP_INCOMPLETE", `the backup is stored and lacks databases${which}`, {
      hint: "mend what kept them out, or leave them out by name, and take another backup; what is stored can be restored",
    }),
  );
}

/** Leaving out by name what forbids connections is no selection: nothing could dump it. */
function isDefaultSet({ dump }: CreateBackupSpec, { facts }: BackupDumpResult): boolean {
  if (dump === undefined || isWholeCluster(dump)) return true;
  if (!isWholeOfDatabases(dump)) return false;
  if (facts === undefined) return false;
  const connectable = new Set(facts.databases.filter((one) => one.allowConnections).map(({ name }) => name));
  return !dump.excludeDatabases.some((name) => connectable.has(name));
}
