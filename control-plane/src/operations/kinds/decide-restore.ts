import { create } from "@bufbuild/protobuf";
import { DecideRestoreCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/decide_restore";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { DecidedRestoreSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/**
 * A database that a restore has left beside is put into place, or dropped. It is not tried again by itself: whoever
 * wanted it in place at one time may not want it at another.
 */
export const decideRestore = defineKind({
  spec: "decideRestore",
  command: "decideRestore",
  retriesAfterLoss: 0,
  settle: "look",
  mayLeave: ({ held, targetDatabase, targetClusterName, decision }) =>
    decision === RestoreDecision.DROP
      ? `the database ${held?.name ?? ""} in cluster ${targetClusterName}, or none of it any more`
      : `the database ${held?.name ?? ""} in cluster ${targetClusterName}, or ${JSON.stringify(targetDatabase)} in place`,
  isHeavy: false,
  references: ({ targetCluster: clusterId }) => ({ clusterId }),
  plan: ({ held, decision, targetDatabase, keptDatabase }, facts) =>
    create(DecideRestoreCommandSchema, {
      connection: required(facts.cluster).connection,
      held: required(held),
      decision,
      targetDatabase,
      keptDatabase,
    }),
  apply({ targetCluster: clusterId, targetDatabase, held, decision }, { result, failure }) {
    const changes = reachability({ clusterId }, failure);
    if (result === undefined) return { failure, changes };
    if (result.decision !== decision)
      return invalidAnswer(
        `the agent answered ${RestoreDecision[decision]} with ${RestoreDecision[result.decision] ?? result.decision}`,
      );
    const isSwapped = decision === RestoreDecision.SWAP;
    const database = isSwapped ? targetDatabase : required(held).name;
    return {
      result: {
        case: "decidedRestore",
        value: create(DecidedRestoreSchema, { decision, cluster: clusterId, database, keptAs: result.keptAs }),
      },
      failure,
      changes,
    };
  },
});
