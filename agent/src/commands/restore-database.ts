import { restoreDatabase } from "../logical/restore.ts";
import type { Handler } from "./handler.ts";
import { restoreToPlan } from "./restore-to-plan.ts";
import { stagedOid } from "./staged-oid.ts";
import { withStorage } from "./with-storage.ts";

/** Restores one database of a dump. */
export const restoreDatabaseCommand: Handler<"restoreDatabase"> = async (command, context) =>
  await withStorage(command.backup?.repository, context, async (storage) => ({
    result: await restoreDatabase({
      ...restoreToPlan(command, storage, context),
      onProgress: context.progress,
      log: context.log,
      onStaged: (oid) => stagedOid.write(context, oid),
      onLeaving: context.leaving,
    }),
  }));
