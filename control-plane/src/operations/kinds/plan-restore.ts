import { create } from "@bufbuild/protobuf";
import { PlanRestoreCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/plan_restore";
import {
  type CreateRestoreSpec,
  type PlanRestoreSpec,
  RestorePlanSchema,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import { defineKind, required } from "./kind.ts";
import { reachability } from "./reachability.ts";
import { restoreCommand, restorePlaces, restoreReferences } from "./restore-command.ts";

/** A plan of a restore. It succeeds also when it says that the restore would be refused. */
export const planRestore = defineKind({
  spec: "planRestore",
  command: "planRestore",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: (spec) => restoreReferences(restoreOf(spec)),
  plan: (spec, facts) => create(PlanRestoreCommandSchema, { restore: restoreCommand(restoreOf(spec), facts) }),
  apply(spec, { result, failure }) {
    const { backup } = restoreOf(spec);
    const changes = reachability(restorePlaces(restoreOf(spec)), failure);
    if (result === undefined) return { failure, changes };
    const { items, steps, storedBytes, databaseBytes, freeBytes, sessionsToEnd, keptAs } = result;
    const plan = create(RestorePlanSchema, {
      backup,
      items,
      steps,
      storedBytes,
      databaseBytes,
      ...(freeBytes === undefined ? {} : { freeBytes }),
      sessionsToEnd,
      keptAs,
    });
    // Its items may say that something was not reached, so that a plan proves nothing about either place.
    return { result: { case: "restorePlan", value: plan }, failure, changes: failure ? changes : [] };
  },
});

function restoreOf({ restore }: PlanRestoreSpec): CreateRestoreSpec {
  return required(restore);
}
