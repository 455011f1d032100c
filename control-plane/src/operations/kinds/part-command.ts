import { create } from "@bufbuild/protobuf";
import { type RecoverPartCommand, RecoverPartCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import { RestoreDatabaseCommandSchema, RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { RecoverPartSpec } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { type Facts, type References, required } from "./kind.ts";
import { physicalRestoreCommand, physicalRestoreReferences } from "./physical-restore-command.ts";

/** What bringing back a part needs to know: what the whole cluster is restored from, where the part goes, what is live. */
export function partReferences(spec: RecoverPartSpec): References {
  const { restore, targetCluster, liveCluster } = spec;
  return {
    ...physicalRestoreReferences(required(restore)),
    ...(targetCluster === "" ? {} : { clusterId: targetCluster }),
    ...(liveCluster === "" ? {} : { liveClusterId: liveCluster }),
  };
}

/** The places whose being reached the end of it tells of. */
export function partPlaces({ restore, targetCluster: clusterId }: RecoverPartSpec) {
  return { repositoryId: required(restore).repository, ...(clusterId === "" ? {} : { clusterId }) };
}

/** The command of it; its plan is asked for with the same one. */
export function partCommand(spec: RecoverPartSpec, facts: Facts): RecoverPartCommand {
  const { scratch, database, selection, file, liveDatabase, liveProblem } = spec;
  return create(RecoverPartCommandSchema, {
    restore: physicalRestoreCommand(required(spec.restore), facts),
    scratch,
    database,
    ...(selection ? { selection } : {}),
    ...(file === "" ? { load: loadCommand(spec, facts) } : { file: { path: file } }),
    ...(facts.live ? { live: facts.live.connection } : {}),
    liveDatabase,
    liveProblem,
  });
}

function loadCommand(spec: RecoverPartSpec, facts: Facts) {
  const { selection, scratch, into, replace, jobs, targetDatabase, stagedDatabase, keptDatabase } = spec;
  return create(RestoreDatabaseCommandSchema, {
    file: { path: `${scratch}/part.dump` },
    connection: required(facts.cluster).connection,
    targetDatabase,
    mode: into ? RestoreMode.INTO : replace ? RestoreMode.HOLD : RestoreMode.NEW,
    jobs,
    stagedDatabase,
    keptDatabase,
    ...(selection ? { selection } : {}),
  });
}
