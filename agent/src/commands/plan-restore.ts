import { planRestore } from "../logical/plan.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withRestore } from "./with-restore.ts";

/** Says what a restore would do. */
export const planRestoreCommand: Handler<"planRestore"> = async (spec, context) =>
  await withRestore(required(spec.restore, "restore"), context, async (restore) => ({
    result: await planRestore(restore),
  }));
