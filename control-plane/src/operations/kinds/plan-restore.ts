import { create } from "@bufbuild/protobuf";
import {
  type PlanRestoreCommand,
  PlanRestoreCommandSchema,
  type PlanRestoreResult,
} from "@coppice/proto/gen/coppice/agent/v1/plan_restore";
import {
  type CreateRestoreSpec,
  type PlannedDatabase,
  PlannedDatabaseSchema,
  type PlanRestoreSpec,
  type RestorePlan,
  RestorePlanSchema,
} from "@coppice/proto/gen/coppice/control/v1/operation";
import { defineKind, type Facts, invalidAnswer, type References, required } from "./kind.ts";
import { reachability } from "./reachability.ts";
import { restoreCommand, restorePlaces, restoreReferences } from "./restore-command.ts";
import { globalsCommand, globalsPlaces, globalsReferences, restoredGlobals } from "./globals-command.ts";

/** A plan of a restore. It succeeds also when it says that the restore would be refused. */
export const planRestore = defineKind({
  spec: "planRestore",
  command: "planRestore",
  retriesAfterLoss: 2,
  settle: "repeat",
  mayLeave: undefined,
  isHeavy: false,
  references,
  plan: planCommand,
  apply(spec, { result, failure }) {
    const { restore, databases } = spec;
    const changes = reachability(restore ? restorePlaces(restore) : globalsPlaces(required(spec.globals)), failure);
    if (result === undefined) return { failure, changes };
    const children = databases.map((database, index) => plannedDatabase(database, result, index));
    if (children.length !== result.databases.length || children.includes(undefined)) {
      return invalidAnswer("the agent planned other databases than those that were asked for");
    }
    const backup = restore?.backup ?? required(spec.globals).backup;
    const plan = restorePlan(result, backup);
    plan.databases = children.flatMap((child) => child ?? []);
    if (result.globals) plan.globals = restoredGlobals(required(spec.globals), result.globals);
    // Its items may say that something was not reached, so that a plan proves nothing about either place.
    return { result: { case: "restorePlan", value: plan }, failure, changes: failure ? changes : [] };
  },
});

function references({ restore, globals }: PlanRestoreSpec): References {
  return restore ? restoreReferences(restore) : globalsReferences(required(globals));
}

/** The very commands that the restore is done with. */
function planCommand({ restore, globals, databases }: PlanRestoreSpec, facts: Facts): PlanRestoreCommand {
  if (restore) return create(PlanRestoreCommandSchema, { restore: restoreCommand(restore, facts) });
  return create(PlanRestoreCommandSchema, {
    globals: globalsCommand(required(globals), facts),
    databases: databases.map((database) => restoreCommand(database, facts)),
  });
}

function plannedDatabase(
  { backup, database, targetDatabase, into }: CreateRestoreSpec,
  { databases }: PlanRestoreResult,
  index: number,
): PlannedDatabase | undefined {
  const answer = databases[index];
  if (answer?.plan === undefined || answer.database !== database) return undefined;
  return create(PlannedDatabaseSchema, { database, targetDatabase, into, plan: restorePlan(answer.plan, backup) });
}

function restorePlan(result: PlanRestoreResult, backup: string): RestorePlan {
  const { items, steps, storedBytes, databaseBytes, freeBytes, sessionsToEnd, keptAs } = result;
  return create(RestorePlanSchema, {
    backup,
    items,
    steps,
    storedBytes,
    databaseBytes,
    ...(freeBytes === undefined ? {} : { freeBytes }),
    sessionsToEnd,
    keptAs,
  });
}
