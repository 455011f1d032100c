import { restorePhysical } from "../physical/restore/restore.ts";
import type { Handler } from "./handler.ts";
import { restoredResult } from "./restored-result.ts";
import { withPhysicalRestore } from "./with-physical-restore.ts";

/** Restores a data directory of a physical backup. */
export const restorePhysicalCommand: Handler<"restorePhysical"> = async (command, context) =>
  await withPhysicalRestore(command, context, async (restore) => {
    for (const warning of command.warnings) context.log(`warning: ${warning}`);
    const result = await restorePhysical({
      ...restore,
      onProgress: context.progress,
      log: context.log,
      onLeaving: context.leaving,
      onRestored: (restored) => restoredResult.write(context, restored),
    });
    return { result };
  });
