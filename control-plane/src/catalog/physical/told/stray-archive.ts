import { eq, type SQL, sql } from "drizzle-orm";
import type { JsonValue } from "@bufbuild/protobuf";
import type { Database } from "../../catalog.ts";
import { host, type StrayArchiveJson } from "../../schema/host.ts";
import { findWalArchive } from "../wal-archive.ts";

/** How often it is noted that an archive still goes on. */
const notedEveryMs = 10_000;
/** An archive tells something every ten seconds; after so much silence it begins to be told of anew. */
const silentMs = 120_000;
/** What an agent had to tell when it was told to end is no sign. */
const leastMs = 15_000;

/** WAL that a host's agent archives, and that the catalog does not want of it. */
export interface StrayArchive {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly hostName: string;
  readonly since: Date;
}

/** Whether a host's agent told of the cluster's WAL unasked. */
export function isStray(clusterId: string): SQL {
  return sql`${host.strayArchives} @> ${JSON.stringify([{ clusterId }])}::text::jsonb`;
}

/** An archive that was told of. */
export interface ToldArchive {
  readonly hostId: string;
  /** Of the desired state that the agent had when it came. */
  readonly heldRevision: bigint;
  readonly clusterId: string;
  readonly clusterName: string;
  /** How, as coppice.common.v1.WalSettings in proto JSON. */
  readonly settings?: JsonValue | undefined;
}

/**
 * Notes that a host's agent archives WAL of a cluster, where nobody wants that of it, nor has ended it since: the catalog
 * was restored or made anew.
 */
export async function noteStrayArchive(
  db: Database,
  { hostId, heldRevision, clusterId, clusterName, settings }: ToldArchive,
  now: Date,
): Promise<void> {
  const archive = await findWalArchive(db, clusterId);
  // Its owner, or one that was declared dead and is told to end.
  if (archive && [archive, ...archive.deadOwners].some((one) => one.hostId === hostId)) return;
  const [row] = await db
    .select({ ended: host.endedEntries, strays: host.strayArchives })
    .from(host)
    .where(eq(host.id, hostId));
  if (row === undefined) return;
  if (row.ended.some(({ id, revision }) => id === clusterId && BigInt(revision) > heldRevision)) return;
  const isOf = (one: StrayArchiveJson) => one.clusterId === clusterId && one.leftover === undefined;
  const known = row.strays.find(isOf);
  const agoMs = known === undefined ? Infinity : now.getTime() - Date.parse(known.lastTime);
  if (agoMs < notedEveryMs) return;
  const firstTime = known === undefined || agoMs > silentMs ? now.toISOString() : known.firstTime;
  const lastTime = now.toISOString();
  const stray: StrayArchiveJson = { clusterId, clusterName, firstTime, lastTime, ...(settings && { settings }) };
  const strayArchives = [...row.strays.filter((one) => !isOf(one)), stray];
  await db.update(host).set({ strayArchives }).where(eq(host.id, hostId));
}

/** What goes on unasked now. */
export async function listStrayArchives(db: Database, now: Date): Promise<StrayArchive[]> {
  const rows = await db
    .select({ hostName: host.name, strays: host.strayArchives })
    .from(host)
    .where(sql`${host.strayArchives} <> '[]'::jsonb`);
  return rows.flatMap(({ hostName, strays }) =>
    strays
      .filter(({ leftover }) => leftover === undefined)
      .map((one) => ({ ...one, first: Date.parse(one.firstTime), last: Date.parse(one.lastTime) }))
      .filter(({ first, last }) => now.getTime() - last < silentMs && last - first >= leastMs)
      .map(({ clusterId, clusterName, first }) => ({ clusterId, clusterName, hostName, since: new Date(first) })),
  );
}

/**
 * How a cluster's WAL was archived unasked when that was told last, by the agent of the given host before any other one; it
 * goes on so also where nobody hears of it. Undefined where that was not told.
 */
export async function findStraySettings(
  db: Database,
  { clusterId, hostId }: { readonly clusterId: string; readonly hostId: string | undefined },
): Promise<JsonValue | undefined> {
  const rows = await db.select({ id: host.id, strays: host.strayArchives }).from(host).where(isStray(clusterId));
  const told = rows
    .flatMap(({ id, strays }) => strays.map((one) => ({ ...one, isOfHost: id === hostId })))
    .filter((one) => one.clusterId === clusterId && one.leftover === undefined && one.settings !== undefined)
    .toSorted((one, other) => Date.parse(other.lastTime) - Date.parse(one.lastTime));
  return (told.find(({ isOfHost }) => isOfHost) ?? told[0])?.settings;
}

/** Id of the cluster of that name or id whose WAL an agent archives unasked; undefined where none does. */
export async function findStrayCluster(db: Database, reference: string): Promise<StrayArchiveJson | undefined> {
  const rows = await db.select({ strays: host.strayArchives }).from(host);
  return rows
    .flatMap(({ strays }) => strays)
    .find(({ clusterId, clusterName }) => reference === (reference.includes("_") ? clusterId : clusterName));
}
