import { create, fromJson } from "@bufbuild/protobuf";
import { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { DecideRestoreSpecSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import type { DecideRestoreRequest } from "@coppice/proto/gen/coppice/control/v1/restore";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { formatKeptDatabase } from "@coppice/proto/kit/repository/restore-names";
import type { Database } from "../../catalog/catalog.ts";
import { findDecision } from "../../catalog/operations/held.ts";
import { findOperation } from "../../catalog/operations/read.ts";
import { requireCluster } from "../../inventory/require.ts";
import type { Prepared } from "../prepared.ts";
import { primaryInstance } from "../server/primary-instance.ts";
import { exclusiveKeyOf } from "./database.ts";
import { spareCatalog } from "./spare-catalog.ts";

/** What a restore has left beside, and whose place that may take: by its own account, which nobody can alter. */
async function requireHeld(db: Database, id: string) {
  const { row } = (await findOperation(db, id)) ?? fail("OPERATION_NOT_FOUND", `there is no operation ${id}`);
  if (row.endTime === null)
    fail("NOTHING_TO_DECIDE", `operation ${id} has not ended yet`, { hint: `wait for it: coppice op watch ${id}` });
  const options = { ignoreUnknownFields: true };
  const { spec } = fromJson(OperationSchema, row.spec, options);
  const result = row.result === null ? undefined : fromJson(OperationSchema, row.result, options).result;
  const held = result?.case === "recoveredPart" ? result.value.held : undefined;
  if (spec.case !== "recoverPart" || !held)
    return fail("NOTHING_TO_DECIDE", `operation ${id} has left no database beside that waits to be swapped in`, {
      hint: `look at what it has left: coppice operation get ${id}`,
    });
  const { targetCluster, targetDatabase, targetClusterName } = spec.value;
  const done = await findDecision(db, id);
  if (done) {
    const isSwapped = done.decision === RestoreDecision.SWAP;
    const what = isSwapped
      ? `${targetDatabase} of ${targetClusterName} is the restored one already: ${held.name} was swapped in by ${done.id}`
      : `${held.name} of ${targetClusterName} was dropped by ${done.id}; nothing was replaced`;
    return fail("NOTHING_TO_DECIDE", what, {
      hint: `look at it: coppice operation get ${done.id}`,
      metadata: { decision: RestoreDecision[done.decision], operation: done.id },
    });
  }
  return { held, targetCluster, targetDatabase };
}

/**
 * Resolves a decision upon what a restore has left beside. Errors: OPERATION_NOT_FOUND, NOTHING_TO_DECIDE,
 * CLUSTER_NOT_FOUND where the cluster was removed meanwhile, DATABASE_IN_USE for the catalog's own.
 */
export async function prepareDecision(
  db: Database,
  { operation, decision }: DecideRestoreRequest,
  now: Date,
): Promise<Prepared> {
  const { held, targetCluster, targetDatabase } = await requireHeld(db, operation);
  const target = await requireCluster(db, targetCluster);
  const spec = create(DecideRestoreSpecSchema, {
    restore: operation,
    decision,
    held,
    targetCluster,
    targetClusterName: target.row.name,
    targetDatabase,
    keptDatabase: formatKeptDatabase(targetDatabase, now),
  });
  await spareCatalog(db, target, [targetDatabase]);
  return {
    operationId: newId("op", { now: () => now.getTime() }),
    spec: { case: "decideRestore", value: spec },
    hostId: primaryInstance(target).hostId,
    clusterId: target.row.id,
    repositoryId: undefined,
    subject: target.row,
    exclusiveKey: exclusiveKeyOf(spec),
    backups: [],
  };
}
