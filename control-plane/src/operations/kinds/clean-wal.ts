import { create } from "@bufbuild/protobuf";
import { CleanWalCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/clean_wal";
import { CleanedWalSchema, type CleanWalSpec } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import type { CatalogChange, WalRun } from "./catalog-change.ts";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { parseRun } from "./parse-run.ts";
import { reachability } from "./reachability.ts";

/**
 * A deletion of archived WAL that nothing needs. From the moment it is sent that WAL counts for nothing, however far the
 * deletion comes; it is repeated where its outcome is unknown, and what is there all the same a verification finds.
 */
export const cleanWal = defineKind({
  spec: "cleanWal",
  command: "cleanWal",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ repository, dryRun }) => ({
    repositoryId: repository,
    purposes: dryRun ? ["read"] : ["read", "delete"],
  }),
  plan({ cluster: clusterId, systemIdentifier, segmentBytes, unneeded, keptNames, knownFolders, dryRun }, facts) {
    return create(CleanWalCommandSchema, {
      repository: required(facts.repository),
      clusterId,
      systemIdentifier,
      segmentBytes,
      runs: unneeded.flatMap(({ stretch }) =>
        stretch ? [{ timeline: stretch.timeline, startLsn: stretch.startLsn, endLsn: stretch.endLsn }] : [],
      ),
      keptNames,
      // Those of then: what has been entered since may need what was not known to be needed.
      knownFolders,
      dryRun,
    });
  },
  begin: (spec) => (spec.dryRun || spec.unneeded.length === 0 ? [] : [walChange("walDeleting", spec, runsOf(spec))]),
  apply(spec, { result, failure }) {
    const changes = reachability({ repositoryId: spec.repository }, failure);
    if (result === undefined) return { failure, changes };
    if (failure !== undefined) {
      // It was refused before anything was deleted, this time: what is there is there.
      const left = spec.dryRun ? [] : result.left.map(parseRun);
      return { failure, changes: left.length === 0 ? changes : [...changes, walChange("walFound", spec, left)] };
    }
    if (result.runs.length !== spec.unneeded.length)
      return invalidAnswer(
        `the agent was told of ${spec.unneeded.length} runs of WAL, and answered of ${result.runs.length}`,
      );
    const { parts, partsBytes, anchors, claims, stays } = result;
    const stretches = spec.unneeded.map((unneeded, index) => {
      const { objects = 0, bytes = 0n } = result.runs[index] ?? {};
      return { unneeded, objects, bytes };
    });
    const value = create(CleanedWalSchema, { stretches, parts, partsBytes, anchors, claims, stays });
    return { result: { case: "cleanedWal", value }, failure, changes };
  },
});

function runsOf({ unneeded }: CleanWalSpec): WalRun[] {
  return unneeded.flatMap(({ stretch }) => (stretch ? [parseRun(stretch)] : []));
}

function walChange(is: "walDeleting" | "walFound", spec: CleanWalSpec, runs: readonly WalRun[]): CatalogChange {
  const { cluster: clusterId, repository: repositoryId, systemIdentifier } = spec;
  return { is, clusterId, repositoryId, systemIdentifier, runs };
}
