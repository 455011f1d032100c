import { isFailure } from "@coppice/proto/kit/failure";
import type { InstanceChoice } from "@coppice/proto/gen/coppice/control/v1/backup";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import { findHost, type HostRow, listHosts } from "../../catalog/host.ts";
import type { RepositoryRow } from "../../catalog/repository.ts";
import { requireHost } from "../../inventory/require.ts";
import { requireReachable } from "../choose-repository.ts";
import { repositoryFor } from "../repository-for.ts";
import { type ChosenServer, chooseServers } from "./choose-server.ts";
import { primaryInstance } from "./primary-instance.ts";

/** Of which server a backup is taken, by whose agent, and where it goes. */
export interface BackupPlace extends ChosenServer {
  readonly host: HostRow;
  readonly repository: RepositoryRow;
}

/**
 * The first server that the choice allows and whose host reaches the repository, which is the same whichever server that is.
 * Errors: CLUSTER_WITHOUT_SERVER, INSTANCE_NOT_FOUND, REPOSITORY_NOT_FOUND, REPOSITORY_AMBIGUOUS, REPOSITORY_WRONG_HOST.
 */
export async function backupPlace(
  db: Database,
  cluster: ClusterRecord,
  { instance: choice, repository: name }: { readonly instance: InstanceChoice; readonly repository: string },
): Promise<BackupPlace> {
  const connected = new Set((await listHosts(db)).filter(({ state }) => state === "CONNECTED").map(({ id }) => id));
  const servers = chooseServers(cluster, choice, (hostId) => connected.has(hostId));
  const usual = name === "" ? await usualRepository(db, cluster) : undefined;
  let refusal: unknown;
  for (const server of servers) {
    const host = await requireHost(db, server.instance.hostId);
    const { id: clusterId } = cluster.row;
    try {
      const repository = usual ?? (await repositoryFor(db, name, { clusterId, host }));
      requireReachable(repository, await findHost(db, repository.homeHostId ?? ""), host);
      return { ...server, host, repository };
    } catch (error) {
      if (!isFailure(error, "REPOSITORY_WRONG_HOST")) throw error;
      refusal = error;
    }
  }
  throw refusal;
}

/** Where a backup of the primary would go; undefined where its host reaches none. Fails where it is not clear which. */
async function usualRepository(db: Database, cluster: ClusterRecord): Promise<RepositoryRow | undefined> {
  const host = await requireHost(db, primaryInstance(cluster).hostId);
  try {
    return await repositoryFor(db, "", { clusterId: cluster.row.id, host });
  } catch (error) {
    const isOutOfReach = isFailure(error, "REPOSITORY_AMBIGUOUS") && error.metadata["repositories"] === undefined;
    if (isOutOfReach) return undefined;
    throw error;
  }
}
