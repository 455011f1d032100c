import { orderBackups } from "@coppice/proto/kit/repository/order-backups";
import { and, asc, desc, eq, inArray, ne } from "drizzle-orm";
import type { LastGoodDump } from "../backup.ts";
import type { Database } from "../catalog.ts";
import { backup, backupCopy } from "../schema/backup.ts";
import { clusterIncarnation } from "../schema/cluster.ts";
import { readLastSeen, walFacts } from "./copies.ts";
import { lacksWal, listLost } from "./wal-lost.ts";

/**
 * The newest physical backup of each cluster that is complete and, with all that it builds on and the archived WAL that it
 * needs, undamaged in one repository; a cluster without one is missing. `present`: of the server that was seen last; `any`: also of earlier ones.
 */
export async function lastGoodPhysicals(
  db: Database,
  { of, clusterIds }: { readonly of: "present" | "any"; readonly clusterIds?: readonly string[] },
): Promise<Map<string, LastGoodDump>> {
  if (clusterIds?.length === 0) return new Map();
  const present = of === "present" ? await presentIdentifiers(db, clusterIds) : new Map<string, string>();
  const rows = await db
    .select({
      id: backup.id,
      clusterId: backup.clusterId,
      parentId: backup.parentId,
      systemIdentifier: backup.systemIdentifier,
      startTime: backup.startTime,
      endTime: backup.endTime,
      repositoryId: backupCopy.repositoryId,
      verifyTime: backupCopy.verifyTime,
      timeline: backup.timeline,
      startLsn: backup.startLsn,
      stopLsn: backup.stopLsn,
      walEmbedded: backup.walEmbedded,
      ...walFacts,
    })
    .from(backup)
    .innerJoin(backupCopy, and(eq(backupCopy.backupId, backup.id), eq(backupCopy.state, "STORED")))
    .where(and(ne(backup.kind, "DUMP"), backup.complete, clusterIds && inArray(backup.clusterId, [...clusterIds])));
  const physicals = rows.map((row) => placed(row));
  const lost = await listLost(db, {});
  const byId = new Map(physicals.map((row) => [`${row.id} ${row.repositoryId}`, row]));
  const parentOf = ({ parentId, repositoryId }: (typeof physicals)[number]) => byId.get(`${parentId} ${repositoryId}`);
  const isWhole = (row: (typeof physicals)[number]): boolean => {
    const parent = parentOf(row);
    return row.parentId === null || (parent !== undefined && isWhole(parent));
  };
  // One of blocks needs the blocks that it builds on, a WAL increment all WAL from the beginning of what is unpacked.
  const isConsistent = (row: (typeof physicals)[number]): boolean => {
    if (lacksWal(row, lost)) return false;
    const parent = parentOf(row);
    return !row.isWalIncrement || (parent !== undefined && isConsistent(parent));
  };
  const newest = new Map<string, LastGoodDump>();
  for (const row of orderBackups(physicals, await readLastSeen(db, clusterIds))) {
    const { id, clusterId, systemIdentifier, startTime, verifyTime } = row;
    if (!isWhole(row) || !isConsistent(row)) continue;
    const identifier = present.get(clusterId);
    if (identifier !== undefined && identifier !== systemIdentifier) continue;
    const before = newest.get(clusterId);
    const times = [verifyTime, before?.backupId === id ? before.verifyTime : null].filter((time) => time !== null);
    const latest = times.toSorted((one, other) => other.getTime() - one.getTime())[0] ?? null;
    newest.set(clusterId, { backupId: id, startTime, verifyTime: latest });
  }
  return newest;
}

interface Place {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly stopLsn: bigint;
}

/** A row with its place in the WAL, which every physical backup has. */
function placed<T extends { readonly id: string } & { readonly [K in keyof Place]: Place[K] | null }>(
  row: T,
): T & Place {
  const { systemIdentifier, timeline, startLsn, stopLsn } = row;
  if (systemIdentifier === null || timeline === null || startLsn === null || stopLsn === null) {
    throw new Error(`physical backup ${row.id} lacks its place in the WAL`);
  }
  return { ...row, systemIdentifier, timeline, startLsn, stopLsn };
}

async function presentIdentifiers(
  db: Database,
  clusterIds: readonly string[] | undefined,
): Promise<Map<string, string>> {
  const rows = await db
    .selectDistinctOn([clusterIncarnation.clusterId])
    .from(clusterIncarnation)
    .where(clusterIds && inArray(clusterIncarnation.clusterId, [...clusterIds]))
    .orderBy(asc(clusterIncarnation.clusterId), desc(clusterIncarnation.lastSeenTime));
  return new Map(rows.map(({ clusterId, systemIdentifier }) => [clusterId, systemIdentifier]));
}
