import { create } from "@bufbuild/protobuf";
import { CheckClusterCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { CheckOutcomeSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { serverOf } from "./catalog-change.ts";
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
  references: serverOf,
  plan: ({ fixStatements }, facts) =>
    create(CheckClusterCommandSchema, {
      connection: required(facts.cluster).connection,
      fixStatements,
      // One that is alone says what the cluster is, each of several has to belong to it.
      ...(facts.cluster?.isAlone ? {} : { expectedSystemIdentifier: required(facts.cluster).systemIdentifier }),
    }),
  apply(spec, { result, failure }) {
    const server = serverOf(spec);
    if (result === undefined) return { failure, changes: reachability(server, failure) };
    const { facts, items, applied, mended } = result;
    const trouble = items.find(({ status }) => status === CheckStatus.FAILED)?.message ?? "no connection came about";
    return {
      result: { case: "checkedCluster", value: create(CheckOutcomeSchema, { items, applied, mended }) },
      failure,
      changes: facts
        ? [
            { is: "clusterTried", ...server, problem: undefined },
            { is: "clusterSeen", ...server, facts },
          ]
        : [{ is: "clusterTried", ...server, problem: failure?.message ?? trouble }],
    };
  },
});
