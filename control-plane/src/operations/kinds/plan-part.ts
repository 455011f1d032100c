import { create } from "@bufbuild/protobuf";
import { PlanPartCommandSchema } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import { defineKind, invalidAnswer, required } from "./kind.ts";
import { partCommand, partPlaces, partReferences } from "./part-command.ts";
import { completePlan } from "./plan-physical.ts";
import { reachability } from "./reachability.ts";

/** A plan of bringing back a part. It succeeds also when it says that it would be refused. */
export const planPart = defineKind({
  spec: "planPart",
  command: "planPart",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: ({ part }) => partReferences(required(part)),
  plan: ({ part, databaseKnown }, facts) =>
    create(PlanPartCommandSchema, { part: partCommand(required(part), facts), databaseKnown }),
  apply({ part, plan }, { result, failure }) {
    const changes = reachability(partPlaces(required(part)), failure);
    if (result === undefined) return { failure, changes };
    if (!result.plan || (result.plan.items.length === 0 && failure === undefined)) {
      return invalidAnswer("the agent planned a restore and looked at nothing");
    }
    return {
      result: { case: "physicalPlan", value: completePlan(plan, result.plan) },
      failure,
      changes: failure ? changes : [],
    };
  },
});
