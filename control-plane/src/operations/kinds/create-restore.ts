import { create } from "@bufbuild/protobuf";
import { RestoredDatabaseSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { defineKind, invalidAnswer } from "./kind.ts";
import { reachability } from "./reachability.ts";
import { restoreCommand, restorePlaces, restoreReferences } from "./restore-command.ts";

/**
 * A restore. It is not tried again by itself once it has run: whoever wanted a database put in place at one time may
 * not want it at another.
 */
export const createRestore = defineKind({
  spec: "createRestore",
  command: "restoreDatabase",
  retriesAfterLoss: 0,
  settle: "look",
  mayLeave: ({ stagedDatabase, targetDatabase, targetClusterName, into }) =>
    into
      ? `all that was restored, or none of it, in the database ${JSON.stringify(targetDatabase)} of cluster ${targetClusterName}`
      : `the staged database ${stagedDatabase} in cluster ${targetClusterName}, or ${JSON.stringify(targetDatabase)} in place`,
  isHeavy: true,
  references: restoreReferences,
  plan: restoreCommand,
  apply(spec, { result, failure }) {
    const { targetCluster: clusterId, targetDatabase } = spec;
    const changes = reachability(restorePlaces(spec), failure);
    if (result === undefined) return { failure, changes };
    const { database, keptAs, objects, tables, rows, warnings } = result;
    if (database !== targetDatabase) {
      return invalidAnswer(
        `the agent restored ${JSON.stringify(database)} instead of ${JSON.stringify(targetDatabase)}`,
      );
    }
    return {
      result: {
        case: "restoredDatabase",
        value: create(RestoredDatabaseSchema, {
          cluster: clusterId,
          database,
          keptAs,
          objects,
          tables,
          rows,
          warnings,
        }),
      },
      failure,
      changes,
    };
  },
});
