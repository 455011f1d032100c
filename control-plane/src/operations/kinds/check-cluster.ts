import { create } from "@bufbuild/protobuf";
import { CheckClusterCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { CheckOutcomeSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { defineKind, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/**
 * A look at a cluster. It succeeds also when what it saw is bad; without facts no connection came about. Confirmed
 * statements are run only while the look itself asks for them, so that it can be repeated.
 */
export const checkCluster = defineKind({
  spec: "checkCluster",
  command: "checkCluster",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ cluster }) => ({ clusterId: cluster }),
  plan: ({ fixStatements }, facts) =>
    create(CheckClusterCommandSchema, { connection: required(facts.cluster).connection, fixStatements }),
  apply({ cluster: clusterId }, { result, failure }) {
    if (result === undefined) return { failure, changes: reachability({ clusterId }, failure) };
    const { facts, items, applied, mended } = result;
    const trouble = items.find(({ status }) => status === CheckStatus.FAILED)?.message ?? "no connection came about";
    return {
      result: { case: "checkedCluster", value: create(CheckOutcomeSchema, { items, applied, mended }) },
      failure,
      changes: facts
        ? [
            { is: "clusterTried", clusterId, problem: undefined },
            { is: "clusterSeen", clusterId, facts },
          ]
        : [{ is: "clusterTried", clusterId, problem: failure?.message ?? trouble }],
    };
  },
});
