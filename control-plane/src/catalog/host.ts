import { and, asc, eq, gt, inArray, isNull, max, sql } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { isReferredBy } from "./reference.ts";
import { certificate, foundCluster, host } from "./schema/host.ts";

export type HostRow = typeof host.$inferSelect;
export type FoundClusterRow = typeof foundCluster.$inferSelect;

/** The host of that name or id. */
export async function findHost(db: Database, reference: string): Promise<HostRow | undefined> {
  const [row] = await db.select().from(host).where(isReferredBy(host, reference));
  return row;
}

/** The same, locked until the transaction ends. */
export async function lockHost(db: Database, reference: string): Promise<HostRow | undefined> {
  const [row] = await db.select().from(host).where(isReferredBy(host, reference)).for("update");
  return row;
}

/** At most `limit` hosts after the name, in order of their names; all without a limit. */
export async function listHosts(
  db: Database,
  page: { after?: string | undefined; limit?: number } = {},
): Promise<HostRow[]> {
  const query = db
    .select()
    .from(host)
    .where(page.after === undefined ? undefined : gt(host.name, page.after))
    .orderBy(asc(host.name));
  return page.limit === undefined ? query : query.limit(page.limit);
}

/** Names of hosts by their ids. */
export async function hostNames(db: Database, ids: readonly string[]): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map();
  const rows = await db
    .select({ id: host.id, name: host.name })
    .from(host)
    .where(inArray(host.id, [...new Set(ids)]));
  return new Map(rows.map(({ id, name }) => [id, name]));
}

/** Clusters that agents found on the hosts, all hosts when none is given. */
export function listFoundClusters(db: Database, hostIds?: readonly string[]): Promise<FoundClusterRow[]> {
  return db
    .select()
    .from(foundCluster)
    .where(hostIds && inArray(foundCluster.hostId, [...hostIds]))
    .orderBy(asc(foundCluster.hostId), asc(foundCluster.port), asc(foundCluster.dataDirectory));
}

/** When the newest certificate of each host that is not revoked expires. */
export async function certificateExpiries(db: Database, hostIds: readonly string[]): Promise<Map<string, Date>> {
  if (hostIds.length === 0) return new Map();
  const rows = await db
    .select({ hostId: certificate.hostId, notAfter: max(certificate.notAfter) })
    .from(certificate)
    .where(and(inArray(certificate.hostId, [...hostIds]), isNull(certificate.revokeTime)))
    .groupBy(certificate.hostId);
  return new Map(rows.flatMap(({ hostId, notAfter }) => (notAfter === null ? [] : [[hostId, notAfter]])));
}

/** Changes the labels of a host, and its version. */
export async function updateHostLabels(db: Database, id: string, labels: Record<string, string>): Promise<void> {
  await db
    .update(host)
    .set({ labels, version: sql`${host.version} + 1`, updateTime: sql`now()` })
    .where(eq(host.id, id));
}

/** Forgets a host with its certificates and enrolments. Fails with HOST_IN_USE, when in a catalog transaction. */
export async function deleteHost(db: Database, id: string): Promise<void> {
  await db.delete(host).where(eq(host.id, id));
  // Whoever holds a session of it, on any replica, cuts it.
  await db.execute(sql`select pg_notify('coppice_host', ${id})`);
}
