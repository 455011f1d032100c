import { create } from "@bufbuild/protobuf";
import {
  type RestoreGlobalsCommand,
  RestoreGlobalsCommandSchema,
  type RestoreGlobalsResult,
} from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import {
  type RestoredGlobals,
  RestoredGlobalsSchema,
  type RestoreGlobalsSpec,
} from "@coppice/proto/gen/coppice/control/v1/restore_operation";
import { type Facts, type References, required } from "./kind.ts";

/** What a restore of the globals needs to know: the copy it reads and the cluster it writes. */
export function globalsReferences({ backup, repository, targetCluster }: RestoreGlobalsSpec): References {
  return {
    clusterId: targetCluster,
    backup: { backupId: backup, repositoryId: repository },
    purposes: ["read"],
    decrypts: true,
  };
}

/** The places whose being reached its end tells of. */
export function globalsPlaces({ targetCluster: clusterId, repository: repositoryId }: RestoreGlobalsSpec) {
  return { clusterId, repositoryId };
}

/** Its command; its plan is asked for with the same one. */
export function globalsCommand({ roles, noTablespaces }: RestoreGlobalsSpec, facts: Facts): RestoreGlobalsCommand {
  return create(RestoreGlobalsCommandSchema, {
    backup: required(facts.backup).address,
    connection: required(facts.cluster).connection,
    roles,
    noTablespaces,
  });
}

/** What came of it, or in a plan would. */
export function restoredGlobals(
  { targetCluster: cluster }: RestoreGlobalsSpec,
  result: RestoreGlobalsResult,
): RestoredGlobals {
  const { createdRoles, createdTablespaces, differences, skipped, presentRoles, presentTablespaces } = result;
  return create(RestoredGlobalsSchema, {
    cluster,
    createdRoles,
    createdTablespaces,
    differences,
    skipped,
    presentRoles,
    presentTablespaces,
  });
}
