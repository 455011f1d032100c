import { and, eq, lt, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { cluster } from "../schema/cluster.ts";
import { repository } from "../schema/repository.ts";

/** Notes whether a cluster was reached just now; `problem` says what was in the way. */
export async function noteClusterTried(tx: Database, id: string, problem: string | undefined): Promise<void> {
  await tx.update(cluster).set(tried(cluster, problem)).where(eq(cluster.id, id));
}

/**
 * Notes that a cluster was reached whose server has answered after a time of the catalog's clock, where the last attempt
 * failed before that.
 */
export async function noteClusterAnswered(db: Database, id: string, after: Date): Promise<void> {
  await db
    .update(cluster)
    .set(tried(cluster, undefined))
    .where(and(eq(cluster.id, id), eq(cluster.reachable, false), lt(cluster.reachableTime, after)));
}

/** Notes whether a repository was reached just now; `problem` says what was in the way. */
export async function noteRepositoryTried(tx: Database, id: string, problem: string | undefined): Promise<void> {
  await tx.update(repository).set(tried(repository, problem)).where(eq(repository.id, id));
}

function tried({ unreachableSince }: typeof cluster | typeof repository, problem: string | undefined) {
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
