import { fromJson } from "@bufbuild/protobuf";
import type { RestoreDecision } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { OperationSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { and, asc, desc, eq, isNotNull, lt, notExists, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/pg-core";
import type { Database } from "../catalog.ts";
import { cluster } from "../schema/cluster.ts";
import { operation } from "../schema/operation.ts";

/** A database that a restore has left beside another one, and that nobody has decided upon. */
export interface HeldRow {
  /** Operation that left it. */
  readonly operationId: string;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly name: string;
  /** The database that it waits beside. */
  readonly target: string;
  readonly since: Date;
}

/**
 * What waits beside since before that time, in clusters that are there still. One that was found to be gone, or called
 * otherwise, when it was decided upon waits no longer.
 */
export async function listHeld(db: Database, before: Date): Promise<HeldRow[]> {
  const decision = alias(operation, "decision");
  const decided = db
    .select({ id: decision.id })
    .from(decision)
    .where(
      and(
        eq(decision.kind, "decide_restore"),
        sql`${decision.spec} #>> '{decideRestore,restore}' = ${operation.id}`,
        sql`(${decision.state} = 'SUCCEEDED' or ${decision.failure} ->> 'reason' = 'NOTHING_TO_DECIDE')`,
      ),
    );
  const target = sql<string>`${operation.spec} #>> '{recoverPart,targetCluster}'`;
  const rows = await db
    .select({ row: operation, clusterId: cluster.id, clusterName: cluster.name })
    .from(operation)
    .innerJoin(cluster, eq(cluster.id, target))
    .where(
      and(
        eq(operation.kind, "recover_part"),
        isNotNull(operation.endTime),
        lt(operation.endTime, before),
        sql`${operation.result} #> '{recoveredPart,held}' is not null`,
        notExists(decided),
      ),
    )
    .orderBy(asc(operation.id));
  const options = { ignoreUnknownFields: true };
  return rows.flatMap(({ row, clusterId, clusterName }) => {
    const { spec } = fromJson(OperationSchema, row.spec, options);
    const { result } = fromJson(OperationSchema, row.result, options);
    if (spec.case !== "recoverPart" || result.case !== "recoveredPart" || !result.value.held || !row.endTime) return [];
    const { name } = result.value.held;
    return { operationId: row.id, clusterId, clusterName, name, target: spec.value.targetDatabase, since: row.endTime };
  });
}

/** The operation by which what that restore left beside was put into place or dropped; undefined while it waits. */
export async function findDecision(
  db: Database,
  operationId: string,
): Promise<{ readonly id: string; readonly decision: RestoreDecision } | undefined> {
  const [row] = await db
    .select()
    .from(operation)
    .where(
      and(
        eq(operation.kind, "decide_restore"),
        eq(operation.state, "SUCCEEDED"),
        sql`${operation.spec} #>> '{decideRestore,restore}' = ${operationId}`,
      ),
    )
    .orderBy(desc(operation.id))
    .limit(1);
  if (!row) return undefined;
  const { spec } = fromJson(OperationSchema, row.spec, { ignoreUnknownFields: true });
  return spec.case === "decideRestore" ? { id: row.id, decision: spec.value.decision } : undefined;
}
