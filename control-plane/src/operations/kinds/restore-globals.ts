import { globalsCommand, globalsPlaces, globalsReferences, restoredGlobals } from "./globals-command.ts";
import { defineKind } from "./kind.ts";
import { reachability } from "./reachability.ts";

/**
 * Roles and tablespaces of a dump. What is there already is left as it is, so an attempt whose outcome is unknown is
 * repeated.
 */
export const restoreGlobals = defineKind({
  spec: "restoreGlobals",
  command: "restoreGlobals",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references: globalsReferences,
  plan: globalsCommand,
  apply(spec, { result, failure }) {
    const changes = reachability(globalsPlaces(spec), failure);
    if (result === undefined) return { failure, changes };
    return { result: { case: "restoredGlobals", value: restoredGlobals(spec, result) }, failure, changes };
  },
});
