import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import type { Storage } from "../storage/storage.ts";
import { requireClusterFile, writeClusterFile } from "./cluster-file.ts";

/** The cluster that a backup is about to be taken of. */
export interface ClusterToClaim {
  readonly clusterId: string;
  readonly name: string;
  readonly systemIdentifier: string;
  readonly major: number;
  readonly seenTime: Date;
  /** Whether cluster.json has to be there already. */
  readonly isExpected: boolean;
}

/**
 * Writes into cluster.json what a backup's cluster is; it has to be written anyway, and shows whether the repository can
 * be. Fails with REPOSITORY_UNREACHABLE where it is expected and missing, and as writeClusterFile.
 */
export async function claimCluster(storage: Storage, cluster: ClusterToClaim, signal: AbortSignal): Promise<void> {
  const { clusterId, name, systemIdentifier, major, seenTime, isExpected } = cluster;
  if (isExpected) await requireClusterFile(storage, clusterId, signal);
  const incarnation = { systemIdentifier, major, firstSeenTime: timestampFromDate(seenTime) };
  const file = create(ClusterFileSchema, { formatVersion: 1, clusterId, name, incarnations: [incarnation] });
  await writeClusterFile(storage, file, signal);
}
