import { and, eq, lt, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { findCluster, instanceOn, lockCluster, mainInstance } from "../cluster.ts";
import { clusterInstance } from "../schema/cluster.ts";
import { repository } from "../schema/repository.ts";

/** Notes whether a server of a cluster was reached just now, the main one where it is not named. */
export async function noteClusterTried(
  tx: Database,
  { clusterId, instanceId }: { readonly clusterId: string; readonly instanceId?: string },
  /** What was in the way. */
  problem: string | undefined,
): Promise<void> {
  // The cluster first, as whoever changes it does.
  const record = await lockCluster(tx, clusterId);
  const id = instanceId ?? (record && mainInstance(record)?.id);
  if (id === undefined) return;
  await tx.update(clusterInstance).set(tried(clusterInstance, problem)).where(eq(clusterInstance.id, id));
}

/**
 * Notes that the server of a cluster that a host's agent archives WAL of was reached, which has answered after a time of the
 * catalog's clock, where the last attempt failed before that.
 */
export async function noteClusterAnswered(
  db: Database,
  { clusterId, hostId }: { readonly clusterId: string; readonly hostId: string },
  after: Date,
): Promise<void> {
  const record = await findCluster(db, clusterId);
  const answered = record && instanceOn(record, hostId);
  if (answered === undefined) return;
  const { id, reachable, reachableTime } = clusterInstance;
  await db
    .update(clusterInstance)
    .set(tried(clusterInstance, undefined))
    .where(and(eq(id, answered.id), eq(reachable, false), lt(reachableTime, after)));
}

/** Notes whether a repository was reached just now; `problem` says what was in the way. */
export async function noteRepositoryTried(tx: Database, id: string, problem: string | undefined): Promise<void> {
  await tx.update(repository).set(tried(repository, problem)).where(eq(repository.id, id));
}

function tried({ unreachableSince }: typeof clusterInstance | typeof repository, problem: string | undefined) {
  return problem === undefined
    ? { reachable: true, reachableTime: new Date(), unreachableSince: null, problem: "" }
    : {
        reachable: false,
        reachableTime: new Date(),
        // Since when it is away, not when it was tried last.
        unreachableSince: sql`coalesce(${unreachableSince}, now())`,
        problem,
      };
}
