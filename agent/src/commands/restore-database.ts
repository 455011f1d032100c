import { RestoreMode } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { restoreDatabase } from "../logical/restore.ts";
import type { Handler } from "./handler.ts";
import { intoStep } from "./into-step.ts";
import { withRestore } from "./with-restore.ts";
import { stagedOid } from "./staged-oid.ts";

/** Restores one database of a dump. */
export const restoreDatabaseCommand: Handler<"restoreDatabase"> = async (command, context) => {
  // Before the repository is opened, which may take its time: what ends until it loads has changed nothing.
  if (command.mode === RestoreMode.INTO) await intoStep.write(context, { is: "looking" });
  return await withRestore(command, context, async (restore) => ({
    result: await restoreDatabase({
      ...restore,
      onProgress: context.progress,
      log: context.log,
      onStaged: (oid) => stagedOid.write(context, oid),
      onInto: (progress) => intoStep.write(context, progress),
      onLeaving: context.leaving,
    }),
  }));
};
