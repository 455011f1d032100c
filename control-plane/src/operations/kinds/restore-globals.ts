import { create } from "@bufbuild/protobuf";
import { RestoreGlobalsCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import { RestoredGlobalsSchema } from "@coppice/proto/gen/coppice/control/v1/restore_operation";
import { defineKind, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/**
 * Roles and tablespaces of a dump. What is there already is left as it is, so an attempt whose outcome is unknown is
 * repeated.
 */
export const restoreGlobals = defineKind({
  spec: "restoreGlobals",
  command: "restoreGlobals",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ backup, repository, targetCluster }) => ({
    clusterId: targetCluster,
    backup: { backupId: backup, repositoryId: repository },
    purposes: ["read"],
    decrypts: true,
  }),
  plan: ({ roles, noTablespaces }, facts) =>
    create(RestoreGlobalsCommandSchema, {
      backup: required(facts.backup).address,
      connection: required(facts.cluster).connection,
      roles,
      noTablespaces,
    }),
  apply({ targetCluster: clusterId, repository: repositoryId }, { result, failure }) {
    const changes = reachability({ clusterId, repositoryId }, failure);
    if (result === undefined) return { failure, changes };
    const { createdRoles, createdTablespaces, differences, skipped } = result;
    const value = create(RestoredGlobalsSchema, {
      cluster: clusterId,
      createdRoles,
      createdTablespaces,
      differences,
      skipped,
    });
    return { result: { case: "restoredGlobals", value }, failure, changes };
  },
});
