import { create } from "@bufbuild/protobuf";
import {
  DumpFileSchema,
  type RestoreDatabaseCommand,
  RestoreDatabaseCommandSchema,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { CreateRestoreSpec } from "@coppice/proto/gen/coppice/control/v1/operation";
import { type Facts, type References, required } from "./kind.ts";

/** What a restore needs to know: the copy it reads and the cluster it writes. */
export function restoreReferences(spec: CreateRestoreSpec): References {
  const { backup, repository, targetCluster, file, identitySecret } = spec;
  if (file !== "") return { clusterId: targetCluster, ...(identitySecret === "" ? {} : { ownSecret: identitySecret }) };
  return {
    clusterId: targetCluster,
    backup: { backupId: backup, repositoryId: repository },
    purposes: ["read"],
    decrypts: true,
  };
}

/** The places whose being reached the end of a restore tells of: a file is in no repository. */
export function restorePlaces({ targetCluster: clusterId, repository: repositoryId, file }: CreateRestoreSpec) {
  return { clusterId, ...(file === "" ? { repositoryId } : {}) };
}

/** The command of a restore; its plan is asked for with the same one. */
export function restoreCommand(spec: CreateRestoreSpec, facts: Facts): RestoreDatabaseCommand {
  return create(RestoreDatabaseCommandSchema, {
    ...(spec.file === ""
      ? { backup: required(facts.backup).address }
      : { file: create(DumpFileSchema, { path: spec.file, identitySecret: spec.identitySecret }) }),
    database: spec.database,
    connection: required(facts.cluster).connection,
    targetDatabase: spec.targetDatabase,
    mode: spec.into ? RestoreMode.INTO : spec.replace ? RestoreMode.REPLACE : RestoreMode.NEW,
    jobs: spec.jobs,
    stagedDatabase: spec.stagedDatabase,
    keptDatabase: spec.keptDatabase,
    ...(spec.selection ? { selection: spec.selection } : {}),
  });
}
