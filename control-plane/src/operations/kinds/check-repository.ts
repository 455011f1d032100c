import { create } from "@bufbuild/protobuf";
import { CheckRepositoryCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/check_repository";
import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { CheckOutcomeSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { defineKind, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/** A try of a repository. It succeeds also when what it saw is bad. */
export const checkRepository = defineKind({
  spec: "checkRepository",
  command: "checkRepository",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ repository }) => ({ repositoryId: repository, purposes: ["write", "read", "delete"], contents: true }),
  plan: (_spec, facts) =>
    create(CheckRepositoryCommandSchema, {
      repository: required(facts.repository),
      isHome: required(facts.isHome),
      knownClusters: [...new Set(required(facts.contents).knownFolders.map((folder) => folder.split("/")[0] ?? ""))],
    }),
  apply({ repository: repositoryId }, { result, failure }) {
    if (result === undefined) return { failure, changes: reachability({ repositoryId }, failure) };
    const failed = result.items.find(({ status }) => status === CheckStatus.FAILED);
    return {
      result: { case: "checkedRepository", value: create(CheckOutcomeSchema, { items: result.items }) },
      failure,
      changes: [{ is: "repositoryTried", repositoryId, problem: failure?.message ?? failed?.message }],
    };
  },
});
