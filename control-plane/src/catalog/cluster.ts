import { and, asc, eq, gt, inArray, ne, sql } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { isReferredBy } from "./reference.ts";
import { cluster, clusterDatabase, clusterIncarnation, clusterInstance } from "./schema/cluster.ts";
import { host } from "./schema/host.ts";
import { walArchive } from "./schema/wal.ts";

export type ClusterRow = typeof cluster.$inferSelect;
export type ClusterInstanceRow = typeof clusterInstance.$inferSelect;

/** A cluster with all that the catalog knows of it. */
export interface ClusterRecord {
  readonly row: ClusterRow;
  /** In order of their ids; none for one that is only known from a repository. */
  readonly instances: readonly ClusterInstanceRow[];
  /** Host whose agent archives its WAL, if one does. */
  readonly archivingHostId: string | undefined;
  /** Hosts of its servers whose agents are not connected now. */
  readonly awayHostIds: ReadonlySet<string>;
  /** Oldest first. */
  readonly incarnations: readonly (typeof clusterIncarnation.$inferSelect)[];
  readonly databases: readonly (typeof clusterDatabase.$inferSelect)[];
}

/** The cluster of that name or id. */
export async function findCluster(db: Database, reference: string): Promise<ClusterRecord | undefined> {
  return (await complete(db, await db.select().from(cluster).where(isReferredBy(cluster, reference))))[0];
}

/** The same, locked until the transaction ends. */
export async function lockCluster(db: Database, reference: string): Promise<ClusterRecord | undefined> {
  const rows = await db.select().from(cluster).where(isReferredBy(cluster, reference)).for("update");
  return (await complete(db, rows))[0];
}

/** At most `limit` clusters after the name, in order of their names; all without a limit. */
export async function listClusters(
  db: Database,
  page: { after?: string | undefined; limit?: number } = {},
): Promise<ClusterRecord[]> {
  const query = db
    .select()
    .from(cluster)
    .where(page.after === undefined ? undefined : gt(cluster.name, page.after))
    .orderBy(asc(cluster.name));
  return complete(db, await (page.limit === undefined ? query : query.limit(page.limit)));
}

/** Servers of all clusters. */
export function listClusterInstances(db: Database): Promise<ClusterInstanceRow[]> {
  return db.select().from(clusterInstance).orderBy(asc(clusterInstance.id));
}

/** Names of clusters by their ids. */
export async function clusterNames(db: Database, ids: readonly string[]): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map();
  const rows = await db
    .select({ id: cluster.id, name: cluster.name })
    .from(cluster)
    .where(inArray(cluster.id, [...new Set(ids)]));
  return new Map(rows.map(({ id, name }) => [id, name]));
}

/** A new cluster with its one server. Fails with NAME_TAKEN, when in a catalog transaction. */
export async function insertCluster(
  db: Database,
  row: { id: string; name: string; labels: Record<string, string> },
  instance: typeof clusterInstance.$inferInsert,
): Promise<void> {
  await db.insert(cluster).values(row);
  await db.insert(clusterInstance).values(instance);
}

/** Gives a cluster one more server. */
export async function insertInstance(db: Database, instance: typeof clusterInstance.$inferInsert): Promise<void> {
  await db.insert(clusterInstance).values(instance);
}

/** Changes what is given, and the version. Fails with NAME_TAKEN, when in a catalog transaction. */
export async function updateCluster(
  db: Database,
  id: string,
  change: { name?: string; labels?: Record<string, string>; updateTime: Date } = { updateTime: new Date() },
): Promise<void> {
  await db
    .update(cluster)
    .set({ ...change, version: sql`${cluster.version} + 1` })
    .where(eq(cluster.id, id));
}

/**
 * Changes where and by whose agent a server is reached, or the secret of its password; a new endpoint is another, unchecked
 * place.
 */
export async function updateInstance(
  db: Database,
  id: string,
  change: Partial<Pick<ClusterInstanceRow, "endpoint" | "hostId" | "role" | "dataDirectory" | "passwordSecretId">>,
): Promise<void> {
  await db.update(clusterInstance).set(change).where(eq(clusterInstance.id, id));
}

/** Forgets a server. */
export async function deleteInstance(db: Database, id: string): Promise<void> {
  await db.delete(clusterInstance).where(eq(clusterInstance.id, id));
}

/** What is known of the servers of a cluster. */
export type ClusterServers = Pick<ClusterRecord, "instances" | "archivingHostId" | "awayHostIds">;

/**
 * The server that work on a cluster is done on: its primary, or the first that may be it, as far as looks have told. Of two
 * that say so, one is a copy or was left behind: the one whose WAL is archived counts, else the first, and the other one
 * only once that is not reached any more.
 */
export function mainInstance(servers: ClusterServers): ClusterInstanceRow | undefined {
  const { instances, archivingHostId, awayHostIds } = servers;
  const primaries = instances.filter(({ role }) => role === "PRIMARY");
  const reached = primaries.filter(({ hostId, reachable }) => reachable !== false && !awayHostIds.has(hostId));
  return (
    reached.find(({ hostId }) => hostId === archivingHostId) ??
    reached[0] ??
    primaries[0] ??
    instances.find(({ role }) => role !== "STANDBY") ??
    instances[0]
  );
}

/** The server that the agent of a host works on, where it is not said which one: the main one, if that is there. */
export function instanceOn(servers: ClusterServers, hostId: string): ClusterInstanceRow | undefined {
  const main = mainInstance(servers);
  return main?.hostId === hostId ? main : servers.instances.find((one) => one.hostId === hostId);
}

/** Forgets a cluster. Fails with CLUSTER_IN_USE while it has backups, when in a catalog transaction. */
export async function deleteCluster(db: Database, id: string): Promise<void> {
  await db.delete(cluster).where(eq(cluster.id, id));
}

async function complete(db: Database, rows: readonly ClusterRow[]): Promise<ClusterRecord[]> {
  if (rows.length === 0) return [];
  const ids = rows.map(({ id }) => id);
  // One after the other: inside a transaction they share a connection anyway.
  const instances = await db
    .select()
    .from(clusterInstance)
    .where(inArray(clusterInstance.clusterId, ids))
    .orderBy(asc(clusterInstance.id));
  const incarnations = await db
    .select()
    .from(clusterIncarnation)
    .where(inArray(clusterIncarnation.clusterId, ids))
    .orderBy(asc(clusterIncarnation.firstSeenTime), asc(clusterIncarnation.major));
  const databases = await db
    .select()
    .from(clusterDatabase)
    .where(inArray(clusterDatabase.clusterId, ids))
    .orderBy(asc(clusterDatabase.name));
  const archives = await db
    .select({ clusterId: walArchive.clusterId, hostId: walArchive.hostId })
    .from(walArchive)
    .where(inArray(walArchive.clusterId, ids));
  const hostIds = [...new Set(instances.map(({ hostId }) => hostId))];
  const away = await db
    .select({ id: host.id })
    .from(host)
    .where(and(inArray(host.id, hostIds), ne(host.state, "CONNECTED")));
  const awayHostIds = new Set(away.map(({ id }) => id));
  return rows.map((row) => ({
    row,
    awayHostIds,
    instances: instances.filter(({ clusterId }) => clusterId === row.id),
    archivingHostId: archives.find(({ clusterId }) => clusterId === row.id)?.hostId,
    incarnations: incarnations.filter(({ clusterId }) => clusterId === row.id),
    databases: databases.filter(({ clusterId }) => clusterId === row.id),
  }));
}

/** The database that the catalog itself lies in, and the system identifier of its server. */
export interface OwnDatabase {
  readonly name: string;
  readonly systemIdentifier: string;
}

/** Asks the server of the catalog which database this is. */
export async function findOwnDatabase(db: Database): Promise<OwnDatabase> {
  const [row] = await db.execute<{ name: string; identifier: string }>(
    sql`select current_database()::text as name, system_identifier::text as identifier from pg_control_system()`,
  );
  return { name: row?.name ?? "", systemIdentifier: row?.identifier ?? "" };
}
