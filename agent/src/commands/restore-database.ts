import { restoreDatabase } from "../logical/restore.ts";
import type { Handler } from "./handler.ts";
import { intoStep } from "./into-step.ts";
import { withRestore } from "./with-restore.ts";
import { stagedOid } from "./staged-oid.ts";

/** Restores one database of a dump. */
export const restoreDatabaseCommand: Handler<"restoreDatabase"> = async (command, context) =>
  await withRestore(command, context, async (restore) => ({
    result: await restoreDatabase({
      ...restore,
      onProgress: context.progress,
      log: context.log,
      onStaged: (oid) => stagedOid.write(context, oid),
      onInto: (progress) => intoStep.write(context, progress),
      onLeaving: context.leaving,
    }),
  }));
