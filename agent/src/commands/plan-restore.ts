import { planRestore } from "../logical/plan.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { restoreToPlan } from "./restore-to-plan.ts";
import { withStorage } from "./with-storage.ts";

/** Says what a restore would do. */
export const planRestoreCommand: Handler<"planRestore"> = async (spec, context) => {
  const command = required(spec.restore, "restore");
  return await withStorage(command.backup?.repository, context, async (storage) => ({
    result: await planRestore(restoreToPlan(command, storage, context)),
  }));
};
