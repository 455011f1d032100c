import { orderBackups } from "@coppice/proto/kit/repository/order-backups";
import { and, asc, eq, inArray, ne, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { backup, backupCopy, type CopyStateName } from "../schema/backup.ts";
import { clusterIncarnation } from "../schema/cluster.ts";

/** A copy of a physical backup: what recovery can be planned by. */
export interface PhysicalCopy {
  readonly id: string;
  readonly clusterId: string;
  readonly repositoryId: string;
  /** Below the cluster's `backups/`. */
  readonly folder: string;
  readonly state: CopyStateName;
  readonly parentId: string | null;
  readonly complete: boolean;
  readonly startTime: Date;
  readonly endTime: Date;
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly stopLsn: bigint;
  readonly walEmbedded: boolean;
  readonly fromStandby: boolean;
  readonly dataBytes: bigint;
  readonly storedBytes: bigint;
  readonly segmentBytes: bigint;
  /** Whether it is a WAL increment, with the name of the restore point at its end. */
  readonly isWalIncrement: boolean;
  readonly restorePoint: string;
}

const physical = sql`${backup.manifest}->'physical'`;

/** What a physical backup's manifest says of the WAL that it needs. */
export const walFacts = {
  segmentBytes: sql<bigint>`${physical}->>'walSegmentBytes'`.mapWith(BigInt),
  isWalIncrement: sql<boolean>`coalesce(${physical}->>'method' = 'INCREMENTAL_METHOD_WAL', false)`,
};

/** Every copy of every physical backup of a cluster, in the order of orderBackups. */
export async function listPhysicalCopies(db: Database, clusterId: string): Promise<PhysicalCopy[]> {
  const rows = await db
    .select({
      id: backup.id,
      clusterId: backup.clusterId,
      repositoryId: backupCopy.repositoryId,
      folder: backupCopy.folder,
      state: backupCopy.state,
      parentId: backup.parentId,
      complete: backup.complete,
      startTime: backup.startTime,
      endTime: backup.endTime,
      systemIdentifier: backup.systemIdentifier,
      timeline: backup.timeline,
      startLsn: backup.startLsn,
      stopLsn: backup.stopLsn,
      walEmbedded: backup.walEmbedded,
      fromStandby: sql<boolean>`coalesce((${physical}->>'fromStandby')::boolean, false)`,
      dataBytes: backup.databaseBytes,
      storedBytes: backup.storedBytes,
      ...walFacts,
      restorePoint: sql<string>`coalesce(${physical}->>'restorePoint', '')`,
    })
    .from(backup)
    .innerJoin(backupCopy, eq(backupCopy.backupId, backup.id))
    .where(and(eq(backup.clusterId, clusterId), ne(backup.kind, "DUMP")))
    .orderBy(asc(backup.id), asc(backupCopy.repositoryId));
  const lastSeen = await readLastSeen(db, [clusterId]);
  const copies = rows.map((row) => {
    const { systemIdentifier, timeline, startLsn, stopLsn, walEmbedded } = row;
    if (systemIdentifier === null || timeline === null || startLsn === null || stopLsn === null) {
      throw new Error(`physical backup ${row.id} lacks its place in the WAL`);
    }
    return { ...row, systemIdentifier, timeline, startLsn, stopLsn, walEmbedded: walEmbedded ?? false };
  });
  return orderBackups(copies, lastSeen);
}

/** When each server of these clusters was seen last, or of all. */
export async function readLastSeen(
  db: Database,
  clusterIds?: readonly string[],
): Promise<(server: { readonly clusterId: string; readonly systemIdentifier: string }) => Date | undefined> {
  const rows = await db
    .select()
    .from(clusterIncarnation)
    .where(clusterIds && inArray(clusterIncarnation.clusterId, [...clusterIds]));
  const times = new Map(rows.map((row) => [`${row.clusterId} ${row.systemIdentifier}`, row.lastSeenTime]));
  return ({ clusterId, systemIdentifier }) => times.get(`${clusterId} ${systemIdentifier}`);
}

/** Every server that there is a physical backup of, with the size of its WAL segments. */
export async function listServers(
  db: Database,
): Promise<Pick<PhysicalCopy, "clusterId" | "systemIdentifier" | "segmentBytes">[]> {
  const rows = await db
    .selectDistinct({
      clusterId: backup.clusterId,
      systemIdentifier: backup.systemIdentifier,
      segmentBytes: walFacts.segmentBytes,
    })
    .from(backup)
    .where(ne(backup.kind, "DUMP"));
  return rows.flatMap(({ systemIdentifier, ...row }) =>
    systemIdentifier === null ? [] : { ...row, systemIdentifier },
  );
}

/** Names of the archive's files that backups of a cluster name as holding their WAL. */
export async function listArchivedNames(db: Database, clusterId: string): Promise<string[]> {
  const keys = sql<string>`jsonb_path_query(${backup.manifest}, '$.physical.archivedWal[*].objects[*].key') #>> '{}'`;
  const rows = await db
    .select({ key: keys })
    .from(backup)
    .where(and(eq(backup.clusterId, clusterId), ne(backup.kind, "DUMP")));
  return [...new Set(rows.map(({ key }) => key.slice(key.lastIndexOf("/") + 1)))];
}
