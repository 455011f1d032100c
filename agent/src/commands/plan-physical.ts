import { planPhysical } from "../physical/restore/plan.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withPhysicalRestore } from "./with-physical-restore.ts";

/** Says whether a physical restore can be done. */
export const planPhysicalCommand: Handler<"planPhysical"> = async ({ restore }, context) =>
  await withPhysicalRestore(required(restore, "restore"), context, async (each) => ({
    result: await planPhysical(each),
  }));
