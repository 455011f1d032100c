import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { type ClusterInstanceRow, type ClusterRecord, findCluster, mainInstance } from "../../catalog/cluster.ts";

/** The server that work on a cluster is done on. Errors: CLUSTER_WITHOUT_SERVER. */
export function primaryInstance(cluster: ClusterRecord): ClusterInstanceRow {
  const { row } = cluster;
  const instance = mainInstance(cluster);
  if (instance !== undefined) return instance;
  return fail(
    "CLUSTER_WITHOUT_SERVER",
    `cluster ${row.name} is known from its backups only, no server is named for it`,
    {
      hint: `name its server: coppice cluster add ${row.name} --host HOST; or restore into another cluster: --to CLUSTER`,
    },
  );
}

/** Id of the host of that server; undefined for a cluster that is not in the catalog. */
export async function primaryHost(db: Database, clusterId: string): Promise<string | undefined> {
  const cluster = await findCluster(db, clusterId);
  return cluster && mainInstance(cluster)?.hostId;
}
