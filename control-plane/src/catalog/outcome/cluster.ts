import { eq, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { type ClusterInstanceRow, type ClusterServers, lockCluster, mainInstance } from "../cluster.ts";
import {
  cluster,
  clusterDatabase,
  clusterIncarnation,
  clusterInstance,
  type InstanceRoleName,
} from "../schema/cluster.ts";

/** A server of a cluster: its main one where it is not named. */
interface Server {
  readonly clusterId: string;
  readonly instanceId?: string;
}

/** What an agent saw of a server. */
export interface SeenCluster {
  readonly systemIdentifier: string;
  readonly serverVersionNum: number;
  readonly role: InstanceRoleName;
  readonly dataDirectory: string;
  readonly databases: readonly {
    readonly name: string;
    readonly sizeBytes: bigint | null;
    readonly allowConnections: boolean;
  }[];
}

/**
 * Notes what a server said of itself. One that was removed meanwhile is left alone, and nothing is believed of one of
 * several that belongs to another cluster: only what is alone says what the cluster is.
 */
export async function noteClusterSeen(tx: Database, server: Server, seen: SeenCluster): Promise<void> {
  const { clusterId } = server;
  const { systemIdentifier, serverVersionNum, role, dataDirectory, databases } = seen;
  const record = await lockCluster(tx, clusterId);
  if (record === undefined) return;
  const { instances, incarnations } = record;
  const instance = instanceOf(record, server);
  if (instance === undefined) return;
  const isMain = mainInstance(record)?.id === instance.id;
  const present = incarnations.toSorted((a, b) => b.lastSeenTime.getTime() - a.lastSeenTime.getTime())[0];
  if (instances.length > 1 && present && present.systemIdentifier !== systemIdentifier) return;
  await tx.update(clusterInstance).set({ role, dataDirectory }).where(eq(clusterInstance.id, instance.id));
  // Another one is behind the primary, and may have another minor version.
  if (!isMain && present) return;
  await tx
    .insert(clusterIncarnation)
    .values({ clusterId, systemIdentifier, major: Math.floor(serverVersionNum / 10_000), serverVersionNum })
    .onConflictDoUpdate({
      target: [clusterIncarnation.clusterId, clusterIncarnation.systemIdentifier, clusterIncarnation.major],
      set: { serverVersionNum: sql`excluded.server_version_num`, lastSeenTime: sql`now()` },
    });
  await tx.delete(clusterDatabase).where(eq(clusterDatabase.clusterId, clusterId));
  if (databases.length === 0) return;
  await tx.insert(clusterDatabase).values(databases.map((database) => ({ clusterId, ...database })));
}

/** Notes what a server was found to be, also where nothing else was learned of it. */
export async function noteRole(tx: Database, server: Server, role: "PRIMARY" | "STANDBY"): Promise<void> {
  const record = await lockCluster(tx, server.clusterId);
  const instance = record && instanceOf(record, server);
  if (instance) await tx.update(clusterInstance).set({ role }).where(eq(clusterInstance.id, instance.id));
}

function instanceOf(servers: ClusterServers, { instanceId }: Server): ClusterInstanceRow | undefined {
  return instanceId === undefined ? mainInstance(servers) : servers.instances.find(({ id }) => id === instanceId);
}

/** What a repository says of a cluster. */
export interface FoundInRepository {
  readonly id: string;
  readonly name: string;
  readonly incarnations: readonly {
    readonly systemIdentifier: string;
    readonly major: number;
    readonly firstSeenTime: Date;
  }[];
}

/**
 * Enters a cluster that a repository holds backups of, without a server, unless it is known. Where its name is taken by
 * another one, its id is added to it.
 */
export async function noteClusterFound(tx: Database, found: FoundInRepository): Promise<void> {
  const { id, incarnations } = found;
  const same = await tx.select({ id: cluster.id }).from(cluster).where(eq(cluster.id, id));
  if (same.length === 0) {
    const taken = await tx.select({ id: cluster.id }).from(cluster).where(eq(cluster.name, found.name));
    const name = taken.length === 0 ? found.name : `${found.name.slice(0, 54)}-${id.slice(-8)}`;
    await tx.insert(cluster).values({ id, name });
  }
  for (const { systemIdentifier, major, firstSeenTime } of incarnations) {
    await tx
      .insert(clusterIncarnation)
      .values({
        clusterId: id,
        systemIdentifier,
        major,
        serverVersionNum: major * 10_000,
        firstSeenTime,
        lastSeenTime: firstSeenTime,
      })
      .onConflictDoNothing();
  }
}
