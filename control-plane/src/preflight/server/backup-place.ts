import { isFailure } from "@coppice/proto/kit/failure";
import type { InstanceChoice } from "@coppice/proto/gen/coppice/control/v1/backup";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRecord } from "../../catalog/cluster.ts";
import { type HostRow, listHosts } from "../../catalog/host.ts";
import type { RepositoryRow } from "../../catalog/repository.ts";
import { requireHost } from "../../inventory/require.ts";
import { type ChosenServer, chooseServers } from "./choose-server.ts";
import { repositoryFor } from "../repository-for.ts";

/** Of which server a backup is taken, by whose agent, and where it goes. */
export interface BackupPlace extends ChosenServer {
  readonly host: HostRow;
  readonly repository: RepositoryRow;
}

/**
 * The first server that the choice allows and whose host reaches the repository. Errors: CLUSTER_WITHOUT_SERVER,
 * INSTANCE_NOT_FOUND, REPOSITORY_NOT_FOUND, REPOSITORY_AMBIGUOUS, REPOSITORY_WRONG_HOST.
 */
export async function backupPlace(
  db: Database,
  cluster: ClusterRecord,
  { instance: choice, repository: name }: { readonly instance: InstanceChoice; readonly repository: string },
): Promise<BackupPlace> {
  const connected = new Set((await listHosts(db)).filter(({ state }) => state === "CONNECTED").map(({ id }) => id));
  const servers = chooseServers(cluster, choice, (hostId) => connected.has(hostId));
  let refusal: unknown;
  for (const server of servers) {
    const host = await requireHost(db, server.instance.hostId);
    try {
      return { ...server, host, repository: await repositoryFor(db, name, { clusterId: cluster.row.id, host }) };
    } catch (error) {
      if (!isFailure(error, "REPOSITORY_WRONG_HOST")) throw error;
      refusal = error;
    }
  }
  throw refusal;
}
