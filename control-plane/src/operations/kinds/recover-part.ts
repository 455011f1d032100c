import { create } from "@bufbuild/protobuf";
import type { RecoverPartResult } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import { RecoveredPartSchema, type RecoverPartSpec } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { isSettledByRecovery } from "@coppice/proto/kit/recovery/resolve-target";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { partCommand, partPlaces, partReferences } from "./part-command.ts";
import { reachability } from "./reachability.ts";

/** One database, or a part of it, as it was at a point in time. It is not tried again by itself, as no restore is. */
export const recoverPart = defineKind({
  spec: "recoverPart",
  command: "recoverPart",
  retriesAfterLoss: 0,
  settle: "look",
  mayLeave: ({ scratch, restore, targetDatabase, targetClusterName, stagedDatabase, file }) =>
    `the scratch folder ${scratch} on host ${restore?.hostName ?? ""}, a server in it running or not; ${
      file === ""
        ? `the staged database ${stagedDatabase} in cluster ${targetClusterName}, or ${JSON.stringify(targetDatabase)} in place`
        : `the file ${file}, or an unfinished one beside it`
    }`,
  isHeavy: true,
  references: partReferences,
  plan: partCommand,
  apply(spec, { result, failure }) {
    const changes = reachability(partPlaces(spec), failure);
    if (result === undefined) return { failure, changes };
    const problem = findProblem(spec, result);
    if (problem !== undefined) {
      return invalidAnswer(`the agent brought back what cannot be what was asked for: ${problem}`);
    }
    const { recovered, loaded, file, fileBytes, differences, onlyLive, warnings, tables } = result;
    return {
      result: {
        case: "recoveredPart",
        value: create(RecoveredPartSchema, {
          cluster: spec.targetCluster,
          database: loaded?.database ?? "",
          keptAs: loaded?.keptAs ?? "",
          objects: loaded?.objects ?? 0,
          tables: loaded?.tables ?? tables,
          rows: loaded?.rows ?? 0n,
          file: file?.path ?? "",
          fileBytes,
          endLsn: recovered?.endLsn ?? "",
          ...(recovered?.lastCommitTime ? { lastCommitTime: recovered.lastCommitTime } : {}),
          differences,
          ...(onlyLive ? { onlyLive } : {}),
          warnings: [
            ...required(spec.restore).warnings.filter((warning) => !isSettledByRecovery(warning)),
            ...(loaded?.warnings ?? []),
            ...warnings,
          ],
          bytesRead: recovered?.bytesRead ?? 0n,
          ...(loaded?.held ? { held: loaded.held } : {}),
        }),
      },
      failure,
      changes,
    };
  },
});

function findProblem(spec: RecoverPartSpec, { loaded, file }: RecoverPartResult): string | undefined {
  if (spec.file !== "") return file?.path === spec.file ? undefined : `the file ${file?.path ?? "is missing"}`;
  if (loaded?.keptAs) return `it replaced a database, kept as ${loaded.keptAs}, before that was decided`;
  if (loaded?.held) {
    const { name } = loaded.held;
    return spec.replace && name === spec.stagedDatabase ? undefined : `the database ${name}, left beside`;
  }
  if (loaded?.database !== spec.targetDatabase) return `the database ${JSON.stringify(loaded?.database ?? "")}`;
  return undefined;
}
