import { and, eq, ne, notExists, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { backup, backupCopy } from "../schema/backup.ts";

/** Enters a stored backup with its copy. One that is there already stays: ids of backups are never used twice. */
export async function insertBackup(
  tx: Database,
  row: typeof backup.$inferInsert,
  copy: typeof backupCopy.$inferInsert,
): Promise<void> {
  await tx.insert(backup).values(row).onConflictDoNothing();
  await tx.insert(backupCopy).values(copy).onConflictDoNothing();
}

/**
 * Notes that every byte of a copy matched, or what is wrong with it. No deletion runs beside it: a copy whose deletion
 * came to nothing is a good one again, one that was deleted in part stays being deleted.
 */
export async function noteVerification(
  tx: Database,
  { backupId, repositoryId, problem }: { backupId: string; repositoryId: string; problem: string },
): Promise<void> {
  await tx
    .update(backupCopy)
    .set(problem === "" ? { state: "STORED", verifyTime: new Date(), problem } : { state: "DAMAGED", problem })
    .where(
      and(
        eq(backupCopy.backupId, backupId),
        eq(backupCopy.repositoryId, repositoryId),
        problem === "" ? undefined : ne(backupCopy.state, "DELETING"),
      ),
    );
  await touchBackup(tx, backupId);
}

/** From now on the manifest of the copy may be gone. */
export async function markDeleting(tx: Database, backupId: string, repositoryId: string): Promise<void> {
  await tx
    .update(backupCopy)
    .set({ state: "DELETING" })
    .where(and(eq(backupCopy.backupId, backupId), eq(backupCopy.repositoryId, repositoryId)));
  await touchBackup(tx, backupId);
}

/** Forgets a copy, and its backup with the last one. */
export async function deleteCopy(tx: Database, backupId: string, repositoryId: string): Promise<void> {
  await tx.delete(backupCopy).where(and(eq(backupCopy.backupId, backupId), eq(backupCopy.repositoryId, repositoryId)));
  const copies = tx
    .select({ one: sql`1` })
    .from(backupCopy)
    .where(eq(backupCopy.backupId, backupId));
  await tx.delete(backup).where(and(eq(backup.id, backupId), notExists(copies)));
  await touchBackup(tx, backupId);
}

async function touchBackup(tx: Database, backupId: string): Promise<void> {
  await tx
    .update(backup)
    .set({ version: sql`${backup.version} + 1` })
    .where(eq(backup.id, backupId));
}
