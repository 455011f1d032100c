import { eq, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import {
  cluster,
  clusterDatabase,
  clusterIncarnation,
  clusterInstance,
  type InstanceRoleName,
} from "../schema/cluster.ts";

/** What an agent saw of a cluster. */
export interface SeenCluster {
  readonly clusterId: string;
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

/** Notes what a cluster said of itself. A cluster that was removed meanwhile is left alone. */
export async function noteClusterSeen(tx: Database, seen: SeenCluster): Promise<void> {
  const { clusterId, systemIdentifier, serverVersionNum, role, dataDirectory, databases } = seen;
  const [there] = await tx.select({ id: cluster.id }).from(cluster).where(eq(cluster.id, clusterId)).for("update");
  if (there === undefined) return;
  await tx.update(clusterInstance).set({ role, dataDirectory }).where(eq(clusterInstance.clusterId, clusterId));
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
