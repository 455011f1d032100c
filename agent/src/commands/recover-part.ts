import { recoverPart } from "../scratch/recover-part.ts";
import type { Handler } from "./handler.ts";
import { intoStep } from "./into-step.ts";
import { recoveredPart } from "./recovered-part.ts";
import { stagedOid } from "./staged-oid.ts";
import { withPart } from "./with-part.ts";

/** Brings back one database, or a part of it, as it was at a point in time. */
export const recoverPartCommand: Handler<"recoverPart"> = async (command, context) =>
  await withPart(command, context, async (part) => {
    for (const warning of part.restore.command.warnings) context.log(`warning: ${warning}`);
    const result = await recoverPart({
      ...part,
      onProgress: context.progress,
      log: context.log,
      onLeaving: context.leaving,
      onStaged: (oid) => stagedOid.write(context, oid),
      onInto: (progress) => intoStep.write(context, progress),
      onDone: (done) => recoveredPart.write(context, done),
    });
    return { result };
  });
