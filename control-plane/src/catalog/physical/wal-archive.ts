import { and, asc, eq, or, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { cluster } from "../schema/cluster.ts";
import { repository } from "../schema/repository.ts";
import { walArchive } from "../schema/wal.ts";

export type WalArchiveRow = typeof walArchive.$inferSelect;

/** What an agent told last of the archiving of a cluster's WAL. */
export type WalPositions = Pick<
  WalArchiveRow,
  | "timeline"
  | "segmentBytes"
  | "receivedLsn"
  | "storedLsn"
  | "serverLsn"
  | "serverTime"
  | "behindTime"
  | "slotStatus"
  | "trouble"
  | "archiver"
  | "slot"
  | "writtenRate"
  | "storedRate"
>;

/** What is to be archived of a cluster; undefined when nothing is. */
export async function findWalArchive(db: Database, clusterId: string): Promise<WalArchiveRow | undefined> {
  const [row] = await db.select().from(walArchive).where(eq(walArchive.clusterId, clusterId));
  return row;
}

/** Everything that is to be archived, in order of the clusters' ids. */
export function listAllWalArchives(db: Database): Promise<WalArchiveRow[]> {
  return db.select().from(walArchive).orderBy(asc(walArchive.clusterId));
}

/** Everything that a host's agent archives, or is to end, in order of the clusters' ids. */
export function listWalArchives(db: Database, hostId: string): Promise<WalArchiveRow[]> {
  const isDeadOwner = sql`${walArchive.deadOwners} @> ${JSON.stringify([{ hostId }])}::text::jsonb`;
  return db
    .select()
    .from(walArchive)
    .where(or(eq(walArchive.hostId, hostId), isDeadOwner))
    .orderBy(asc(walArchive.clusterId));
}

/** Archives nothing of the cluster any more; what is stored stays. */
export async function deleteWalArchive(tx: Database, clusterId: string): Promise<void> {
  await tx.delete(walArchive).where(eq(walArchive.clusterId, clusterId));
}

/**
 * Lets reports of one cluster wait for each other until the transaction ends, and holds the cluster and the repository;
 * false when one of them is gone. It comes before the lock of a session: who changes either tells the host's agent.
 */
export async function lockWal(
  tx: Database,
  { clusterId, repositoryId }: { readonly clusterId: string; readonly repositoryId: string },
): Promise<boolean> {
  await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended(${`wal ${clusterId}`}, 0))`);
  const clusters = await tx.select({ id: cluster.id }).from(cluster).where(eq(cluster.id, clusterId)).for("key share");
  const repositories = await tx
    .select({ id: repository.id })
    .from(repository)
    .where(eq(repository.id, repositoryId))
    .for("key share");
  return clusters.length > 0 && repositories.length > 0;
}

/** Notes what was told, where that place and server are still the ones wanted. */
export async function noteWalPositions(
  tx: Database,
  of: Pick<WalArchiveRow, "clusterId" | "hostId" | "repositoryId" | "systemIdentifier">,
  told: WalPositions,
): Promise<void> {
  await tx
    .update(walArchive)
    .set({
      ...told,
      reportTime: new Date(),
      // What was told of another place is forgotten when the archive moves, with the time of its report.
      beginTime: sql`case when ${walArchive.reportTime} is null then now() else ${walArchive.beginTime} end`,
    })
    .where(
      and(
        eq(walArchive.clusterId, of.clusterId),
        eq(walArchive.hostId, of.hostId),
        eq(walArchive.repositoryId, of.repositoryId),
        eq(walArchive.systemIdentifier, of.systemIdentifier),
      ),
    );
}
