import { and, asc, eq, isNull, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { host } from "../schema/host.ts";
import { operation } from "../schema/operation.ts";
import { walArchive } from "../schema/wal.ts";

/** WAL that an operation waits for, and whose segment only the server that is archived can end. */
export interface AwaitedWal {
  readonly clusterId: string;
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly lsn: string;
}

/**
 * What operations wait for by their progress, of clusters whose WAL the host's agent alone archives now. One whose own
 * agent is lost is not known to wait.
 */
export function listAwaitedWal(db: Database, hostId: string): Promise<AwaitedWal[]> {
  const lsn = sql<string>`${operation.progress} #>> '{work,awaitedLsn}'`;
  return db
    .select({
      clusterId: walArchive.clusterId,
      systemIdentifier: walArchive.systemIdentifier,
      timeline: sql`coalesce((${operation.progress} #>> '{work,awaitedTimeline}')::bigint, 0)`.mapWith(Number),
      lsn,
    })
    .from(operation)
    .innerJoin(
      walArchive,
      and(eq(walArchive.clusterId, operation.clusterId), eq(walArchive.repositoryId, operation.repositoryId)),
    )
    .innerJoin(host, eq(host.id, operation.hostId))
    .where(
      and(
        eq(walArchive.hostId, hostId),
        isNull(walArchive.nextHostId),
        isNull(operation.endTime),
        eq(operation.state, "RUNNING"),
        eq(host.state, "CONNECTED"),
        sql`${lsn} <> ''`,
      ),
    )
    .orderBy(asc(operation.id));
}
