import { create } from "@bufbuild/protobuf";
import type { RestorePhysicalResult } from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import {
  RestoredDataDirectorySchema,
  type RestorePhysicalSpec,
} from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { isSettledByRecovery } from "@coppice/proto/kit/recovery/resolve-target";
import { defineKind, invalidAnswer } from "./kind.ts";
import { physicalRestoreCommand, physicalRestoreReferences } from "./physical-restore-command.ts";
import { reachability } from "./reachability.ts";

/**
 * A restore of a data directory. It is not tried again by itself once it has run: whoever wanted a server in place at
 * one time may not want it at another.
 */
export const restorePhysical = defineKind({
  spec: "restorePhysical",
  command: "restorePhysical",
  retriesAfterLoss: 0,
  settle: "look",
  mayLeave: ({ dataDirectory, hostName, start }) =>
    `a staging folder beside ${dataDirectory} on host ${hostName}, or the restored ${dataDirectory} in place${start ? ", its server started or not" : ""}`,
  isHeavy: true,
  references: physicalRestoreReferences,
  plan: physicalRestoreCommand,
  apply(spec, { result, failure }) {
    const changes = reachability({ repositoryId: spec.repository }, failure);
    if (result === undefined) return { failure, changes };
    const problem = findProblem(spec, result);
    if (problem !== undefined) {
      return invalidAnswer(`the agent reported a restore that cannot be the one that was asked for: ${problem}`);
    }
    const { $typeName: _, $unknown: __, files: ___, segments: ____, ...told } = result;
    return {
      result: {
        case: "restoredDataDirectory",
        value: create(RestoredDataDirectorySchema, {
          host: spec.host,
          ...told,
          warnings: [
            ...spec.warnings.filter((warning) => !(result.started && isSettledByRecovery(warning))),
            ...told.warnings,
          ],
        }),
      },
      failure,
      changes,
    };
  },
});

function findProblem(spec: RestorePhysicalSpec, result: RestorePhysicalResult): string | undefined {
  if (result.dataDirectory !== spec.dataDirectory) return `it is in ${result.dataDirectory}`;
  if (result.files === 0) return "no file was written";
  if (result.keptAs !== "" && !spec.replace) return `what was there was moved to ${result.keptAs}`;
  if (result.started !== spec.start) return result.started ? "its server was started" : "its server was not started";
  if (result.started && result.timeline === 0) return "its server is on no timeline";
  return undefined;
}
