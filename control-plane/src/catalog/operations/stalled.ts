import { fromJson } from "@bufbuild/protobuf";
import { OperationProgressSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import { and, asc, eq, inArray, isNull, lt, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { cluster } from "../schema/cluster.ts";
import { host } from "../schema/host.ts";
import { operation, operationAttempt } from "../schema/operation.ts";

/** An operation that an agent works on, and of which it has told nothing new for long. */
export interface StalledRow {
  readonly operationId: string;
  readonly kind: string;
  readonly isCancelled: boolean;
  /** Null of those that are of no cluster, or of one that is gone. */
  readonly clusterName: string | null;
  readonly hostName: string;
  /** Empty before the first was told. */
  readonly phase: string;
  readonly item: string;
  readonly since: Date;
}

/** What has begun, is with an agent that is connected, and has not moved since before that time. */
export async function listStalled(db: Database, before: Date): Promise<StalledRow[]> {
  const since =
    sql`greatest(${operation.progressTime}, ${operationAttempt.startTime}, ${operation.cancelTime})`.mapWith(
      operationAttempt.startTime,
    );
  const rows = await db
    .select({ row: operation, clusterName: cluster.name, hostName: host.name, since })
    .from(operation)
    .innerJoin(
      operationAttempt,
      and(
        eq(operationAttempt.operationId, operation.id),
        eq(operationAttempt.number, operation.attempt),
        isNull(operationAttempt.endTime),
      ),
    )
    .innerJoin(host, eq(host.id, operation.hostId))
    .leftJoin(cluster, eq(cluster.id, operation.clusterId))
    .where(
      and(
        inArray(operation.state, ["RUNNING", "CANCELLING"]),
        eq(host.state, "CONNECTED"),
        lt(since, sql.param(before, operationAttempt.startTime)),
      ),
    )
    .orderBy(asc(operation.id));
  return rows.map(({ row: { id, kind, state, progress }, ...named }) => {
    const told =
      progress === null ? undefined : fromJson(OperationProgressSchema, progress, { ignoreUnknownFields: true });
    const { phase = "", item = "" } = told?.work ?? {};
    return { operationId: id, kind, isCancelled: state === "CANCELLING", phase, item, ...named };
  });
}
