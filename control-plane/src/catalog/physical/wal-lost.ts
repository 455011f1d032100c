import { and, asc, eq } from "drizzle-orm";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import type { Database } from "../catalog.ts";
import { walLost } from "../schema/wal.ts";

/** A run of WAL that is not there, or not as it was stored. */
export type WalLostRow = Pick<
  typeof walLost.$inferSelect,
  "clusterId" | "repositoryId" | "systemIdentifier" | "timeline" | "startLsn" | "endLsn" | "foundTime"
>;

/** What is lost of WAL, of one cluster or of all, of one server or of all. */
export function listLost(
  db: Database,
  of: { readonly clusterId?: string; readonly systemIdentifier?: string },
): Promise<WalLostRow[]> {
  const { clusterId, systemIdentifier, repositoryId, timeline, startLsn } = walLost;
  return db
    .select()
    .from(walLost)
    .where(
      and(
        of.clusterId === undefined ? undefined : eq(clusterId, of.clusterId),
        of.systemIdentifier === undefined ? undefined : eq(systemIdentifier, of.systemIdentifier),
      ),
    )
    .orderBy(asc(clusterId), asc(systemIdentifier), asc(repositoryId), asc(timeline), asc(startLsn));
}

/** A backup's place in the WAL that it needs. */
export interface WalNeed {
  readonly clusterId: string;
  readonly repositoryId: string;
  readonly systemIdentifier: string | null;
  readonly timeline: number | null;
  readonly startLsn: bigint | null;
  readonly stopLsn: bigint | null;
  readonly walEmbedded: boolean | null;
  readonly segmentBytes: bigint;
}

/** Whether some of the archived WAL that a copy needs to be consistent is lost. */
export function lacksWal(copy: WalNeed, lost: readonly WalLostRow[]): boolean {
  const { startLsn, stopLsn, walEmbedded, segmentBytes } = copy;
  if (walEmbedded || startLsn === null || stopLsn === null) return false;
  const firstLsn = segmentStart(startLsn, segmentBytes);
  return lost.some(
    (run) =>
      run.clusterId === copy.clusterId &&
      run.repositoryId === copy.repositoryId &&
      run.systemIdentifier === copy.systemIdentifier &&
      run.timeline === copy.timeline &&
      run.startLsn < stopLsn &&
      run.endLsn > firstLsn,
  );
}

/** Notes what was found lost of a server in a repository: in the place of what was found before, or beside it. */
export async function noteLost(
  tx: Database,
  of: { readonly clusterId: string; readonly systemIdentifier: string; readonly repositoryId: string },
  {
    runs,
    replaces,
  }: { readonly runs: readonly Pick<WalLostRow, "timeline" | "startLsn" | "endLsn">[]; readonly replaces: boolean },
): Promise<void> {
  if (replaces) {
    await tx
      .delete(walLost)
      .where(
        and(
          eq(walLost.clusterId, of.clusterId),
          eq(walLost.systemIdentifier, of.systemIdentifier),
          eq(walLost.repositoryId, of.repositoryId),
        ),
      );
  }
  if (runs.length === 0) return;
  await tx
    .insert(walLost)
    .values(runs.map((run) => ({ ...of, ...run })))
    .onConflictDoNothing();
}
