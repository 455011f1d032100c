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
