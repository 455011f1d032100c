import { create } from "@bufbuild/protobuf";
import type { CheckClusterRequest, FixClusterRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { CheckClusterSpecSchema, CheckRepositorySpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { CheckRepositoryRequest } from "@coppice/proto/gen/coppice/control/v1/repository";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import { requireInstance } from "../inventory/find-instance.ts";
import { requireCluster, requireRepository } from "../inventory/require.ts";
import { chooseWorker } from "./choose-worker.ts";
import type { Prepared } from "./prepared.ts";
import { primaryInstance } from "./server/primary-instance.ts";

/**
 * Resolves a request for a check of a server of a cluster, with statements that were confirmed or without. Errors:
 * CLUSTER_NOT_FOUND, CLUSTER_WITHOUT_SERVER, INSTANCE_NOT_FOUND.
 */
export async function prepareClusterCheck(
  db: Database,
  request: CheckClusterRequest | FixClusterRequest,
): Promise<Prepared> {
  const cluster = await requireCluster(db, request.cluster);
  const { id, name } = cluster.row;
  const instance =
    request.instance === "" ? primaryInstance(cluster) : await requireInstance(db, cluster, request.instance);
  const fixStatements = "statements" in request ? request.statements : [];
  return {
    operationId: newId("op"),
    spec: {
      case: "checkCluster",
      value: create(CheckClusterSpecSchema, { cluster: id, clusterName: name, fixStatements, instance: instance.id }),
    },
    hostId: instance.hostId,
    clusterId: id,
    repositoryId: undefined,
    subject: cluster.row,
    backups: [],
  };
}

/**
 * Resolves a request for a check of a repository, from the host given or one that can. Errors: REPOSITORY_NOT_FOUND,
 * HOST_NOT_FOUND, REPOSITORY_WRONG_HOST.
 */
export async function prepareRepositoryCheck(db: Database, request: CheckRepositoryRequest): Promise<Prepared> {
  const repository = await requireRepository(db, request.repository);
  const host = await chooseWorker(db, { repository, host: request.host });
  const { id, name } = repository;
  return {
    operationId: newId("op"),
    spec: {
      case: "checkRepository",
      value: create(CheckRepositorySpecSchema, { repository: id, repositoryName: name }),
    },
    hostId: host.id,
    clusterId: undefined,
    repositoryId: id,
    subject: repository,
    backups: [],
  };
}
