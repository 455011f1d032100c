import { clone, create } from "@bufbuild/protobuf";
import {
  PlanPhysicalCommandSchema,
  type PlanPhysicalResult,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import { type PhysicalPlan, PhysicalPlanSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { physicalRestoreCommand, physicalRestoreReferences } from "./physical-restore-command.ts";
import { reachability } from "./reachability.ts";

/**
 * A plan of a restore of a data directory: what the catalog says of it, and what its host adds. It succeeds also when it
 * says that the restore would be refused.
 */
export const planPhysical = defineKind({
  spec: "planPhysical",
  command: "planPhysical",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ restore }) => physicalRestoreReferences(required(restore)),
  plan: ({ restore }, facts) =>
    create(PlanPhysicalCommandSchema, { restore: physicalRestoreCommand(required(restore), facts) }),
  apply({ restore, plan }, { result, failure }) {
    const changes = reachability({ repositoryId: required(restore).repository }, failure);
    if (result === undefined) return { failure, changes };
    if (result.items.length === 0 && failure === undefined) {
      return invalidAnswer("the agent planned a restore and looked at nothing");
    }
    // Its items may say that something was not reached, so that a plan proves nothing about the repository.
    const value = completePlan(plan, result);
    return { result: { case: "physicalPlan", value }, failure, changes: failure ? changes : [] };
  },
});

/** What the catalog says of a plan, with what its host adds. */
export function completePlan(plan: PhysicalPlan | undefined, result: PlanPhysicalResult): PhysicalPlan {
  const value = clone(PhysicalPlanSchema, plan ?? create(PhysicalPlanSchema));
  value.items.push(...result.items);
  value.steps.push(...result.steps);
  value.neededBytes = result.neededBytes;
  if (result.freeBytes !== undefined) value.freeBytes = result.freeBytes;
  return value;
}
