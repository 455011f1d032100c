import { planRestore } from "../logical/plan.ts";
import { planCluster } from "../logical/plan-cluster.ts";
import type { Handler } from "./handler.ts";
import { required } from "./required.ts";
import { withGlobals } from "./with-globals.ts";
import { withRestore } from "./with-restore.ts";

/** Says what a restore would do. */
export const planRestoreCommand: Handler<"planRestore"> = async ({ restore, globals, databases }, context) => {
  if (restore) return await withRestore(restore, context, async (each) => ({ result: await planRestore(each) }));
  const { workFolder } = context;
  const onDatabase = (item: string) => context.progress({ phase: "looking at", item });
  return await withGlobals(required(globals, "globals"), context, async (each) => ({
    result: await planCluster({ ...each, databases, workFolder, onDatabase }),
  }));
};
