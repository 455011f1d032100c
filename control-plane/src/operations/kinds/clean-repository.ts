import { create } from "@bufbuild/protobuf";
import { CleanRepositoryCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/scan_repository";
import { CleanedRepositorySchema } from "@coppice/proto/gen/coppice/control/v1/repository_operation";
import { defineKind, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/** A cleaning. What was removed once is not there the next time, so it is repeated where its outcome is unknown. */
export const cleanRepository = defineKind({
  spec: "cleanRepository",
  command: "cleanRepository",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ repository, dryRun }) => ({
    repositoryId: repository,
    purposes: dryRun ? ["read"] : ["read", "delete"],
    contents: true,
  }),
  plan({ before, dryRun }, facts) {
    // A backup that the catalog knows and that lost its manifest is damaged: what is left of it is not for the broom.
    const { activeFolders, knownFolders } = required(facts.contents);
    return create(CleanRepositoryCommandSchema, {
      repository: required(facts.repository),
      ...(before ? { before } : {}),
      activeFolders: [...activeFolders, ...knownFolders].map((folder) => folder.split("/")[1] ?? folder),
      dryRun,
    });
  },
  apply({ repository: repositoryId }, { result, failure }) {
    const changes = reachability({ repositoryId }, failure);
    if (result === undefined) return { failure, changes };
    const { leavings, objects, bytes, removed } = result;
    const value = create(CleanedRepositorySchema, { repository: repositoryId, leavings, objects, bytes, removed });
    return { result: { case: "cleanedRepository", value }, failure, changes };
  },
});
