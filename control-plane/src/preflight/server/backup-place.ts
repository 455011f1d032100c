import { isFailure } from "@coppice/proto/kit/failure";
import { InstanceChoice } from "@coppice/proto/gen/coppice/control/v1/backup";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterInstanceRow, ClusterRecord } from "../../catalog/cluster.ts";
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
  /** Why it is the primary where a standby was preferred; empty otherwise. */
  readonly standbyMissed: string;
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
  const hosts = await listHosts(db);
  const connected = new Set(hosts.filter(({ state }) => state === "CONNECTED").map(({ id }) => id));
  const servers = chooseServers(cluster, choice, (hostId) => connected.has(hostId));
  const usual = name === "" ? await usualRepository(db, cluster) : undefined;
  let refusal: unknown;
  for (const server of servers) {
    const host = await requireHost(db, server.instance.hostId);
    const { id: clusterId } = cluster.row;
    try {
      const repository = usual ?? (await repositoryFor(db, name, { clusterId, host }));
      requireReachable(repository, await findHost(db, repository.homeHostId ?? ""), host);
      const isMissed = choice === InstanceChoice.PREFER_STANDBY && server.standby !== true;
      return { ...server, host, repository, standbyMissed: isMissed ? whyNoStandby(cluster, hosts, connected) : "" };
    } catch (error) {
      if (!isFailure(error, "REPOSITORY_WRONG_HOST")) throw error;
      refusal = error;
    }
  }
  throw refusal;
}

function whyNoStandby(
  { row, instances }: ClusterRecord,
  hosts: readonly HostRow[],
  connected: ReadonlySet<string>,
): string {
  const why = ({ hostId, reachable }: ClusterInstanceRow) => {
    const name = hosts.find(({ id }) => id === hostId)?.name ?? hostId;
    if (!connected.has(hostId)) return `the agent of ${name} is away`;
    return reachable === false
      ? `that of ${name} was not reached the last time`
      : `${name} does not reach the repository`;
  };
  const standbys = instances.filter(({ role }) => role === "STANDBY");
  if (standbys.length > 0) return `its standby could not be taken: ${standbys.map(why).join(", ")}`;
  return `no server is known to be a standby: coppice cluster check ${row.name}`;
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
