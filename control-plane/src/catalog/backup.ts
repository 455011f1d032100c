import { and, asc, desc, eq, exists, inArray, lt, sql } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { backup, backupCopy, type CopyStateName } from "./schema/backup.ts";
import { cluster, clusterIncarnation } from "./schema/cluster.ts";
import { operation, operationBackup } from "./schema/operation.ts";
import { repository } from "./schema/repository.ts";

export type BackupRow = typeof backup.$inferSelect;
export type BackupCopyRow = typeof backupCopy.$inferSelect;

/** A backup with its copies. */
export interface BackupRecord {
  readonly row: BackupRow;
  readonly copies: readonly BackupCopyRow[];
}

/** The newest good dump of a cluster: complete, of its default databases, with an undamaged copy. */
export interface LastGoodDump {
  readonly backupId: string;
  readonly startTime: Date;
  /** When its bytes were last re-read and matched; null when never. */
  readonly verifyTime: Date | null;
}

/** A copy in which a verification found damage. */
export interface DamagedCopy {
  readonly backupId: string;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly repositoryName: string;
  readonly problem: string;
  /** When its bytes were last known to be good: verified, or else written. */
  readonly goodTime: Date;
}

export async function findBackup(db: Database, id: string): Promise<BackupRecord | undefined> {
  return (await complete(db, await db.select().from(backup).where(eq(backup.id, id))))[0];
}

/** The same, locked until the transaction ends. */
export async function lockBackup(db: Database, id: string): Promise<BackupRecord | undefined> {
  return (await complete(db, await db.select().from(backup).where(eq(backup.id, id)).for("update")))[0];
}

/** At most `limit` backups before the given id, newest first: ids grow with time. */
export async function listBackups(
  db: Database,
  page: {
    before?: string | undefined;
    limit: number;
    clusterId?: string | undefined;
    repositoryId?: string | undefined;
  },
): Promise<BackupRecord[]> {
  const { before, limit, clusterId, repositoryId } = page;
  const inRepository =
    repositoryId === undefined
      ? undefined
      : exists(
          db
            .select({ one: sql`1` })
            .from(backupCopy)
            .where(and(eq(backupCopy.backupId, backup.id), eq(backupCopy.repositoryId, repositoryId))),
        );
  const rows = await db
    .select()
    .from(backup)
    .where(
      and(
        before === undefined ? undefined : lt(backup.id, before),
        clusterId === undefined ? undefined : eq(backup.clusterId, clusterId),
        inRepository,
      ),
    )
    .orderBy(desc(backup.id))
    .limit(limit);
  return complete(db, rows);
}

/** Ids of the clusters of which a repository holds backups. */
export async function listStoredClusters(db: Database, repositoryId: string): Promise<string[]> {
  const rows = await db
    .selectDistinct({ clusterId: backup.clusterId })
    .from(backupCopy)
    .innerJoin(backup, eq(backup.id, backupCopy.backupId))
    .where(eq(backupCopy.repositoryId, repositoryId))
    .orderBy(asc(backup.clusterId));
  return rows.map(({ clusterId }) => clusterId);
}

/** `<cluster id>/<folder>` of every copy in a repository, or of those in a state. */
export async function listFolders(db: Database, repositoryId: string, state?: CopyStateName): Promise<string[]> {
  const rows = await db
    .select({ clusterId: backup.clusterId, folder: backupCopy.folder })
    .from(backupCopy)
    .innerJoin(backup, eq(backup.id, backupCopy.backupId))
    .where(and(eq(backupCopy.repositoryId, repositoryId), state && eq(backupCopy.state, state)))
    .orderBy(asc(backup.id));
  return rows.map(({ clusterId, folder }) => `${clusterId}/${folder}`);
}

/**
 * The last good dump of each cluster; a cluster without one is missing. `present`: of the server that was seen last, so
 * that a cluster that was made anew (initdb) is not taken for protected by dumps of the one before; `any`: also of
 * earlier ones, for whoever wants to have back what is no longer there.
 */
export async function lastGoodDumps(
  db: Database,
  { of, clusterIds }: { readonly of: "present" | "any"; readonly clusterIds?: readonly string[] },
): Promise<Map<string, LastGoodDump>> {
  if (clusterIds?.length === 0) return new Map();
  const presentIdentifier = db
    .select({ systemIdentifier: clusterIncarnation.systemIdentifier })
    .from(clusterIncarnation)
    .where(eq(clusterIncarnation.clusterId, backup.clusterId))
    .orderBy(desc(clusterIncarnation.lastSeenTime))
    .limit(1);
  const rows = await db
    .selectDistinctOn([backup.clusterId], {
      clusterId: backup.clusterId,
      backupId: backup.id,
      startTime: backup.startTime,
      verifyTime: sql<Date | null>`max(${backupCopy.verifyTime}) over (partition by ${backup.id})`.mapWith(
        backupCopy.verifyTime,
      ),
    })
    .from(backup)
    .innerJoin(backupCopy, and(eq(backupCopy.backupId, backup.id), eq(backupCopy.state, "STORED")))
    .where(
      and(
        eq(backup.kind, "DUMP"),
        backup.complete,
        backup.defaultDatabases,
        // Where nobody has seen an identifier yet, nothing speaks against the dump.
        of === "present"
          ? sql`coalesce(${backup.manifest}->>'systemIdentifier' = ${presentIdentifier}, true)`
          : undefined,
        clusterIds && inArray(backup.clusterId, [...clusterIds]),
      ),
    )
    // By ids, which come from one clock and in their order: a host whose clock was ahead once would be newest for ever.
    .orderBy(asc(backup.clusterId), desc(backup.id));
  return new Map(rows.map(({ clusterId, ...dump }) => [clusterId, dump]));
}

/** Every copy whose last verification found damage, newest backups first. */
export async function listDamagedCopies(db: Database): Promise<DamagedCopy[]> {
  const rows = await db
    .select({
      backupId: backup.id,
      clusterId: cluster.id,
      clusterName: cluster.name,
      repositoryName: repository.name,
      problem: backupCopy.problem,
      verifyTime: backupCopy.verifyTime,
      endTime: backup.endTime,
    })
    .from(backupCopy)
    .innerJoin(backup, eq(backup.id, backupCopy.backupId))
    .innerJoin(cluster, eq(cluster.id, backup.clusterId))
    .innerJoin(repository, eq(repository.id, backupCopy.repositoryId))
    .where(eq(backupCopy.state, "DAMAGED"))
    .orderBy(desc(backup.id), asc(repository.id));
  return rows.map(({ verifyTime, endTime, ...copy }) => ({ ...copy, goodTime: verifyTime ?? endTime }));
}

/** Backups that build on this one directly. */
export async function listChildren(db: Database, backupId: string): Promise<string[]> {
  const rows = await db.select({ id: backup.id }).from(backup).where(eq(backup.parentId, backupId)).orderBy(backup.id);
  return rows.map(({ id }) => id);
}

/** Operations that have not ended and hold a lease on the backup. */
export async function operationsUsing(db: Database, backupId: string): Promise<string[]> {
  const rows = await db
    .select({ id: operation.id })
    .from(operationBackup)
    .innerJoin(operation, eq(operation.id, operationBackup.operationId))
    .where(and(eq(operationBackup.backupId, backupId), sql`${operation.endTime} is null`))
    .orderBy(asc(operation.id));
  return rows.map(({ id }) => id);
}

async function complete(db: Database, rows: readonly BackupRow[]): Promise<BackupRecord[]> {
  if (rows.length === 0) return [];
  const copies = await db
    .select()
    .from(backupCopy)
    .where(
      inArray(
        backupCopy.backupId,
        rows.map(({ id }) => id),
      ),
    )
    .orderBy(asc(backupCopy.repositoryId));
  return rows.map((row) => ({ row, copies: copies.filter(({ backupId }) => backupId === row.id) }));
}
