import { and, asc, eq } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { walLost } from "../schema/wal.ts";

/** A run of WAL that is not there, or not as it was stored. */
export type WalLostRow = Pick<
  typeof walLost.$inferSelect,
  "repositoryId" | "systemIdentifier" | "timeline" | "startLsn" | "endLsn"
>;

/** What is lost of a cluster's WAL, of one server or of all. */
export function listLost(
  db: Database,
  { clusterId, systemIdentifier }: { readonly clusterId: string; readonly systemIdentifier?: string },
): Promise<WalLostRow[]> {
  const { repositoryId, systemIdentifier: system, timeline, startLsn, endLsn } = walLost;
  return db
    .select({ repositoryId, systemIdentifier: system, timeline, startLsn, endLsn })
    .from(walLost)
    .where(
      and(eq(walLost.clusterId, clusterId), systemIdentifier === undefined ? undefined : eq(system, systemIdentifier)),
    )
    .orderBy(asc(system), asc(repositoryId), asc(timeline), asc(startLsn));
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
