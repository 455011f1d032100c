import { and, asc, desc, eq, inArray, ne } from "drizzle-orm";
import type { LastGoodDump } from "../backup.ts";
import type { Database } from "../catalog.ts";
import { backup, backupCopy } from "../schema/backup.ts";
import { clusterIncarnation } from "../schema/cluster.ts";
import { walFacts } from "./copies.ts";
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
    .where(and(ne(backup.kind, "DUMP"), backup.complete, clusterIds && inArray(backup.clusterId, [...clusterIds])))
    // Parents come before what builds on them: ids grow with time.
    .orderBy(asc(backup.id));
  const lost = await listLost(db, {});
  const whole = new Set<string>();
  const consistent = new Set<string>();
  const newest = new Map<string, LastGoodDump>();
  for (const row of rows) {
    const { id, clusterId, parentId, systemIdentifier, startTime, repositoryId, verifyTime } = row;
    if (parentId !== null && !whole.has(`${parentId} ${repositoryId}`)) continue;
    whole.add(`${id} ${repositoryId}`);
    // One of blocks needs the blocks that it builds on, a WAL increment all WAL from the beginning of what is unpacked.
    if (lacksWal(row, lost) || (row.isWalIncrement && !consistent.has(`${parentId} ${repositoryId}`))) continue;
    consistent.add(`${id} ${repositoryId}`);
    const identifier = present.get(clusterId);
    if (identifier !== undefined && identifier !== systemIdentifier) continue;
    const before = newest.get(clusterId);
    const times = [verifyTime, before?.backupId === id ? before.verifyTime : null].filter((time) => time !== null);
    const latest = times.toSorted((one, other) => other.getTime() - one.getTime())[0] ?? null;
    newest.set(clusterId, { backupId: id, startTime, verifyTime: latest });
  }
  return newest;
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
