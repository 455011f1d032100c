import { create } from "@bufbuild/protobuf";
import {
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { CreateRestoreSpec } from "@coppice/proto/gen/coppice/control/v1/operation";
import { type Facts, type References, required } from "./kind.ts";

/** What a restore needs to know: the copy it reads and the cluster it writes. */
export function restoreReferences({ backup, repository, targetCluster }: CreateRestoreSpec): References {
  return { clusterId: targetCluster, backup: { backupId: backup, repositoryId: repository } };
}

/** The command of a restore; its plan is asked for with the same one. */
export function restoreCommand(spec: CreateRestoreSpec, facts: Facts): RestoreDatabaseCommand {
  return create(RestoreDatabaseCommandSchema, {
    backup: required(facts.backup).address,
    database: spec.database,
    connection: required(facts.cluster).connection,
    targetDatabase: spec.targetDatabase,
    mode: spec.replace ? RestoreMode.REPLACE : RestoreMode.NEW,
    jobs: spec.jobs,
    stagedDatabase: spec.stagedDatabase,
    keptDatabase: spec.keptDatabase,
  });
}
