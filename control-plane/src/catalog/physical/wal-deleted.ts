import { addRuns, type Extent, removeRuns } from "@coppice/proto/kit/recovery/extents";
import { and, asc, eq } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { walDeleted, walExtent } from "../schema/wal.ts";
import { toExtent } from "./wal-extent.ts";

/** A run of WAL that was deleted, or is about to be. */
export type WalDeletedRow = Omit<typeof walDeleted.$inferSelect, "clusterId">;

/** The WAL of a server in one repository. */
export interface WalPlace {
  readonly clusterId: string;
  readonly systemIdentifier: string;
  readonly repositoryId: string;
}

type Run = Pick<WalDeletedRow, "timeline" | "startLsn" | "endLsn">;

/** What was deleted of a cluster's WAL, of one server or of all, in order. */
export function listDeleted(
  db: Database,
  { clusterId, systemIdentifier }: { readonly clusterId: string; readonly systemIdentifier?: string },
): Promise<WalDeletedRow[]> {
  const { repositoryId, systemIdentifier: system, timeline, startLsn, endLsn } = walDeleted;
  return db
    .select({ repositoryId, systemIdentifier: system, timeline, startLsn, endLsn })
    .from(walDeleted)
    .where(
      and(
        eq(walDeleted.clusterId, clusterId),
        systemIdentifier === undefined ? undefined : eq(system, systemIdentifier),
      ),
    )
    .orderBy(asc(system), asc(repositoryId), asc(timeline), asc(startLsn));
}

/** Runs count for nothing from now on. */
export async function noteDeleted(tx: Database, place: WalPlace, runs: readonly Run[]): Promise<void> {
  await replaceDeleted(tx, place, (deleted) => addRuns(deleted, runs.map(extentOf(place))));
}

/**
 * Runs that were deleted as far as is known, and were seen to be there, count again; of other runs nothing is changed. Who
 * calls holds the lock of the cluster's WAL.
 */
export async function noteFound(tx: Database, place: WalPlace, runs: readonly Run[]): Promise<void> {
  if (runs.length === 0) return;
  const found = runs.map(extentOf(place));
  let back: Extent[] = [];
  await replaceDeleted(tx, place, (deleted) => {
    const left = removeRuns(deleted, found);
    back = removeRuns(deleted, left);
    return left;
  });
  const told = await tx.select().from(walExtent).where(isOf(walExtent, place));
  const merged = addRuns(told.map(toExtent), back);
  await tx.delete(walExtent).where(isOf(walExtent, place));
  if (merged.length > 0) await tx.insert(walExtent).values(merged.map(toRow(place)));
}

async function replaceDeleted(
  tx: Database,
  place: WalPlace,
  change: (deleted: readonly Extent[]) => readonly Extent[],
): Promise<void> {
  const rows = await tx.select().from(walDeleted).where(isOf(walDeleted, place));
  const next = change(rows.map(toExtent));
  await tx.delete(walDeleted).where(isOf(walDeleted, place));
  if (next.length === 0) return;
  await tx.insert(walDeleted).values(next.map(toRow(place)));
}

function isOf(table: typeof walDeleted | typeof walExtent, place: WalPlace) {
  return and(
    eq(table.clusterId, place.clusterId),
    eq(table.repositoryId, place.repositoryId),
    eq(table.systemIdentifier, place.systemIdentifier),
  );
}

const extentOf =
  (place: WalPlace) =>
  (run: Run): Extent =>
    toExtent({ ...run, ...place });

const toRow =
  (place: WalPlace) =>
  ({ timeline, startLsn, endLsn }: Run): typeof walDeleted.$inferInsert => ({ ...place, timeline, startLsn, endLsn });
