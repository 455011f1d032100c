import { and, asc, eq, inArray, lt, ne, or, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { notifyAgent } from "../operations/notify.ts";
import { host } from "../schema/host.ts";
import { walArchive } from "../schema/wal.ts";
import { isStray } from "./told/stray-archive.ts";

/** Revision of what the host's agent is to carry out with or without us; undefined for a host that is gone. */
export async function desiredRevision(db: Database, hostId: string): Promise<bigint | undefined> {
  const [row] = await db.select({ revision: host.desiredRevision }).from(host).where(eq(host.id, hostId));
  return row?.revision;
}

/** What the host's agent is to give up, and the revisions that said so. */
export async function listEnded(db: Database, hostId: string): Promise<{ id: string; revision: bigint }[]> {
  const [row] = await db.select({ ended: host.endedEntries }).from(host).where(eq(host.id, hostId));
  return (row?.ended ?? []).map(({ id, revision }) => ({ id, revision: BigInt(revision) }));
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

/** Who is to give up archiving WAL of a cluster. */
interface EndOfArchive {
  readonly clusterId: string;
  readonly hostIds: readonly string[];
  /**
   * Whether that is said of a server that is gone: who was told before, and still has to undo something there, forgets it
   * then. Else it goes on trying.
   */
  readonly isGone: boolean;
}

/**
 * Tells the agents of the hosts, and whoever archives it unasked, to give up archiving WAL of the cluster: what merely is
 * no longer wanted of them goes on.
 */
export async function endDesired(tx: Database, { clusterId, hostIds, isGone }: EndOfArchive): Promise<void> {
  const rows = await tx
    .select({ id: host.id, revision: host.desiredRevision, ended: host.endedEntries, strays: host.strayArchives })
    .from(host)
    .where(or(inArray(host.id, [...hostIds]), isStray(clusterId)))
    .orderBy(asc(host.id))
    .for("update");
  for (const { id, revision, ended, strays } of rows) {
    const isTold = ended.some((one) => one.id === clusterId) && !hostIds.includes(id);
    const isUnasked = strays.some((one) => one.clusterId === clusterId && one.leftover === undefined);
    if (isTold && !isUnasked && !isGone) continue;
    const entry = { id: clusterId, revision: String(revision + 1n) };
    const endedEntries = [...ended.filter((one) => one.id !== clusterId), entry];
    const strayArchives = strays.filter((one) => one.clusterId !== clusterId);
    await tx.update(host).set({ endedEntries, strayArchives }).where(eq(host.id, id));
    await changeDesired(tx, id);
  }
}

/**
 * Tells every other agent that gave up archiving WAL of the cluster so once more, with who archives it from now on: what
 * that one uses on the server is its own.
 */
export async function repeatEnded(
  tx: Database,
  { clusterId, exceptHostId }: { readonly clusterId: string; readonly exceptHostId: string },
): Promise<void> {
  const rows = await tx
    .select({ id: host.id, revision: host.desiredRevision, ended: host.endedEntries })
    .from(host)
    .where(
      and(ne(host.id, exceptHostId), sql`${host.endedEntries} @> ${JSON.stringify([{ id: clusterId }])}::text::jsonb`),
    )
    .orderBy(asc(host.id))
    .for("update");
  for (const { id, revision, ended } of rows) {
    const entry = { id: clusterId, revision: String(revision + 1n) };
    const endedEntries = [...ended.filter((one) => one.id !== clusterId), entry];
    await tx.update(host).set({ endedEntries }).where(eq(host.id, id));
    await changeDesired(tx, id);
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
