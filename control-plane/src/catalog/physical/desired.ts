import { and, eq, lt, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { notifyAgent } from "../operations/notify.ts";
import { host } from "../schema/host.ts";
import { walArchive } from "../schema/wal.ts";

/** Revision of what the host's agent is to carry out with or without us; undefined for a host that is gone. */
export async function desiredRevision(db: Database, hostId: string): Promise<bigint | undefined> {
  const [row] = await db.select({ revision: host.desiredRevision }).from(host).where(eq(host.id, hostId));
  return row?.revision;
}

/** Makes a new revision for the host's agent, which is told once the transaction is committed. */
export async function changeDesired(tx: Database, hostId: string): Promise<void> {
  await tx
    .update(host)
    .set({ desiredRevision: sql`${host.desiredRevision} + 1` })
    .where(eq(host.id, hostId));
  await notifyAgent(tx, hostId);
}

/** The same for every host whose agent archives WAL of the cluster or into the repository. */
export async function changeDesiredOf(
  tx: Database,
  about: { readonly clusterId: string } | { readonly repositoryId: string },
): Promise<void> {
  const subject =
    "clusterId" in about ? eq(walArchive.clusterId, about.clusterId) : eq(walArchive.repositoryId, about.repositoryId);
  const rows = await tx.selectDistinct({ hostId: walArchive.hostId }).from(walArchive).where(subject);
  for (const { hostId } of rows.toSorted((one, other) => (one.hostId < other.hostId ? -1 : 1))) {
    await changeDesired(tx, hostId);
  }
}

/**
 * Takes over the revision that an agent has, where the catalog is behind it: one that was restored from a backup. What
 * changes from then on is newer for the agent too.
 */
export async function adoptRevision(db: Database, hostId: string, revision: bigint): Promise<void> {
  await db
    .update(host)
    .set({ desiredRevision: revision })
    .where(and(eq(host.id, hostId), lt(host.desiredRevision, revision)));
}
