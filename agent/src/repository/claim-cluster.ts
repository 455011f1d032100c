import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ClusterFileSchema } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import { lookIfAllowed, unseen } from "../storage/look-if-allowed.ts";
import type { Storage } from "../storage/storage.ts";
import { addClusterFile, requireAnyClusterFile, requireClusterFile, writeClusterFile } from "./cluster-file.ts";

/** The cluster that a backup is about to be taken of. */
export interface ClusterToClaim {
  readonly clusterId: string;
  readonly name: string;
  readonly systemIdentifier: string;
  readonly major: number;
  readonly seenTime: Date;
  /** Whether cluster.json has to be there already. */
  readonly isExpected: boolean;
  /** Clusters whose backups are known to be in the repository: where this one is not expected, one of them is. */
  readonly knownClusters: readonly string[];
}

/**
 * Writes into cluster.json what a backup's cluster is; it has to be written anyway, and shows whether the repository can
 * be. Says whether what is there could be seen: a host that may only put leaves a file that is expected as it is, and
 * makes none in another's place. Fails with REPOSITORY_UNREACHABLE where it is expected and missing, and as
 * writeClusterFile.
 */
export async function claimCluster(storage: Storage, cluster: ClusterToClaim, signal: AbortSignal): Promise<boolean> {
  const { clusterId, name, systemIdentifier, major, seenTime, isExpected, knownClusters } = cluster;
  const incarnation = { systemIdentifier, major, firstSeenTime: timestampFromDate(seenTime) };
  const file = create(ClusterFileSchema, { formatVersion: 1, clusterId, name, incarnations: [incarnation] });
  const looked = await lookIfAllowed(storage, async () => {
    if (isExpected) await requireClusterFile(storage, clusterId, signal);
    else await requireAnyClusterFile(storage, knownClusters, signal);
    await writeClusterFile(storage, file, signal);
  });
  if (looked !== unseen) return true;
  if (!isExpected) await addClusterFile(storage, file, signal);
  return false;
}
