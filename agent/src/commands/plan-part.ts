import { create } from "@bufbuild/protobuf";
import { PlanPartResultSchema } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import { planPart } from "../scratch/plan-part.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withPart } from "./with-part.ts";

/** Says whether a part can be brought back. */
export const planPartCommand: Handler<"planPart"> = async ({ part, databaseKnown }, context) =>
  await withPart(required(part, "part"), context, async (each) => ({
    result: create(PlanPartResultSchema, { plan: await planPart(each, databaseKnown) }),
  }));
