import { create } from "@bufbuild/protobuf";
import {
  type PlannedDatabase,
  PlannedDatabaseSchema,
  type PlanRestoreResult,
  PlanRestoreResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/plan_restore";
import type { RestoreDatabaseCommand } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import type { RestoreGlobalsResult } from "@coppice/proto/gen/coppice/agent/v1/restore_globals";
import { isFailure } from "@coppice/proto/kit/failure";
import { type GlobalsRequest, planGlobals } from "./globals/restore-globals.ts";
import { type Item, look, quoteNames, toCheckItem } from "../host/look.ts";
import { seeSpace } from "../host/space.ts";
import { planRestore, type Promised } from "./plan.ts";

/** What a restore of the globals, or of a whole cluster, is looked at with. */
export interface ClusterToPlan extends GlobalsRequest {
  /** Restores of databases that follow the globals; none for the globals alone. */
  readonly databases: readonly RestoreDatabaseCommand[];
  readonly workFolder: string;
  /** Told the name of the database that is looked at. */
  readonly onDatabase: (name: string) => void;
}

/** Stored bytes that are damaged keep one database from being restored, and say nothing of the others. */
async function planOne(
  request: ClusterToPlan,
  command: RestoreDatabaseCommand,
  promised: Promised,
): Promise<PlanRestoreResult> {
  try {
    return await planRestore({ ...request, command, promised });
  } catch (error) {
    if (!isFailure(error) || error.code !== "data_loss") throw error;
    const item = toCheckItem({ name: "backup", message: error.message, failure: error });
    return create(PlanRestoreResultSchema, { items: [item] });
  }
}

function describeGlobals({ createdRoles, createdTablespaces }: RestoreGlobalsResult): string[] {
  return [
    ...(createdRoles.length > 0 ? [`in one transaction create the roles ${quoteNames(createdRoles)}`] : []),
    ...(createdTablespaces.length > 0 ? [`create the tablespaces ${quoteNames(createdTablespaces)}`] : []),
  ];
}

const sum = (numbers: readonly bigint[]) => numbers.reduce((total, number) => total + number, 0n);

/**
 * Says what a restore of the globals, or of them and every database, would do and whether it would be refused; changes
 * nothing. Each step is looked at by the code that does it. Fails where not even the looking works.
 */
export async function planCluster(request: ClusterToPlan): Promise<PlanRestoreResult> {
  const { signal } = request;
  const globals = await planGlobals(request);
  const promised = {
    roles: globals.result?.createdRoles ?? [],
    tablespaces: globals.result?.createdTablespaces ?? [],
  };
  const databases: PlannedDatabase[] = [];
  const plans: PlanRestoreResult[] = [];
  for (const command of request.databases) {
    signal.throwIfAborted();
    request.onDatabase(command.database);
    const plan = await planOne(request, command, promised);
    plans.push(plan);
    databases.push(create(PlannedDatabaseSchema, { database: command.database, plan }));
  }
  const databaseBytes = sum(plans.map((plan) => plan.databaseBytes));
  const freeBytes = plans.find((plan) => plan.freeBytes !== undefined)?.freeBytes;
  const items: Item[] = [...globals.items];
  if (databases.length > 0)
    items.push(await look("space", signal, () => seeSpace("the server's data directory", freeBytes, databaseBytes)));
  return create(PlanRestoreResultSchema, {
    items: items.map(toCheckItem),
    steps: [
      ...(globals.result ? describeGlobals(globals.result) : []),
      ...databases.map(({ database }) => `restore the database ${JSON.stringify(database)}`),
    ],
    storedBytes: sum(plans.map((plan) => plan.storedBytes)),
    databaseBytes,
    ...(freeBytes === undefined ? {} : { freeBytes }),
    sessionsToEnd: plans.reduce((total, plan) => total + plan.sessionsToEnd, 0),
    ...(globals.result ? { globals: globals.result } : {}),
    databases,
  });
}
