import { restoreGlobals } from "../logical/globals/restore-globals.ts";
import type { Handler } from "./handler.ts";
import { withGlobals } from "./with-globals.ts";

/** Applies roles and tablespaces of a dump. */
export const restoreGlobalsCommand: Handler<"restoreGlobals"> = async (command, context) =>
  await withGlobals(command, context, async (globals) => ({ result: await restoreGlobals(globals) }));
