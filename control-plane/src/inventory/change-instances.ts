import type { KeyObject } from "node:crypto";
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import type { AddInstanceRequest, RemoveInstanceRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import { hasActiveOperations } from "../catalog/active-operations.ts";
import type { Database } from "../catalog/catalog.ts";
import {
  type ClusterInstanceRow,
  type ClusterRecord,
  deleteInstance,
  insertInstance,
  instanceOn,
  mainInstance,
  updateCluster,
} from "../catalog/cluster.ts";
import { findWalArchive } from "../catalog/physical/wal-archive.ts";
import { deleteSecret, findSecret } from "../catalog/secret.ts";
import { requireInstance } from "./find-instance.ts";
import { openSealed } from "../secrets/seal.ts";
import { findServer, type NewServer, sealPassword } from "./protect-cluster.ts";
import { takeLogin } from "./take-login.ts";

/**
 * Names one more server of a cluster; nothing is sent to it. Errors: CLUSTER_WITHOUT_SERVER, HOST_NOT_FOUND,
 * CLUSTER_AMBIGUOUS, INSTANCE_EXISTS, INVALID_FIELD.
 */
export async function addInstance(
  tx: Database,
  masterKey: KeyObject,
  cluster: ClusterRecord,
  request: AddInstanceRequest,
): Promise<void> {
  const { row, instances } = cluster;
  if (instances.length === 0) {
    fail("CLUSTER_WITHOUT_SERVER", `cluster ${row.name} is known from its backups only`, {
      hint: `name its first server: coppice cluster add ${row.name} --host ${request.host}`,
    });
  }
  const server = await findServer(tx, masterKey, { ...request, name: row.name });
  const text = placeOf(server.endpoint);
  if (instances.some(({ hostId, endpoint }) => hostId === server.hostId && placeOf(endpoint) === text)) {
    fail("INSTANCE_EXISTS", `cluster ${row.name} has that server by the agent of ${request.host} already`);
  }
  const main = mainInstance(cluster);
  const taken = main === undefined ? {} : await loginOf(tx, masterKey, row.name, { main, server });
  await insertInstance(tx, { ...server, ...taken, clusterId: row.id });
  await updateCluster(tx, row.id);
}

/** What a new server takes over of how the main one is logged in to. */
async function loginOf(
  tx: Database,
  masterKey: KeyObject,
  cluster: string,
  { main, server }: { readonly main: ClusterInstanceRow; readonly server: NewServer },
): Promise<Partial<Pick<NewServer, "endpoint" | "passwordSecretId">>> {
  const read = (endpoint: JsonValue) => fromJson(EndpointSchema, endpoint);
  const { endpoint, takesPassword } = takeLogin(read(server.endpoint), read(main.endpoint));
  const taken = { endpoint: toJson(EndpointSchema, endpoint) };
  const { passwordSecretId: secretId } = main;
  if (server.passwordSecretId !== null || secretId === null || !takesPassword) return taken;
  const sealed = await findSecret(tx, secretId);
  if (sealed === undefined) return taken;
  // Each server has its own, which goes with it.
  const password = openSealed(masterKey, secretId, sealed).toString("utf8");
  return { ...taken, passwordSecretId: await sealPassword(tx, masterKey, cluster, password) };
}

/** Where it listens, whoever logs in. */
function placeOf(endpoint: JsonValue): string {
  const { address, port, service } = fromJson(EndpointSchema, endpoint);
  return JSON.stringify([address, port || 5432, service]);
}

/** Forgets a server of a cluster. Errors: INSTANCE_NOT_FOUND, CLUSTER_IN_USE. */
export async function removeInstance(
  tx: Database,
  cluster: ClusterRecord,
  { instance: reference }: RemoveInstanceRequest,
): Promise<void> {
  const { row, instances } = cluster;
  const instance = await requireInstance(tx, cluster, reference);
  if (instances.length === 1) {
    fail("CLUSTER_IN_USE", `it is the only server of cluster ${row.name}`, {
      hint: `forget the cluster: coppice cluster remove ${row.name}; or let it be another one: coppice cluster update ${row.name} --host HOST --endpoint ENDPOINT`,
    });
  }
  const archive = await findWalArchive(tx, row.id);
  const isArchived = [archive?.hostId, archive?.nextHostId].some(
    (hostId) => hostId === instance.hostId && instanceOn(cluster, hostId)?.id === instance.id,
  );
  if (isArchived) {
    fail("CLUSTER_IN_USE", `its WAL is archived for cluster ${row.name}`, {
      hint: `let that of the primary do it: coppice cluster check ${row.name}, then coppice wal setup ${row.name}`,
    });
  }
  if (await hasActiveOperations(tx, { clusterId: row.id })) {
    fail("CLUSTER_IN_USE", `operations that have not ended use cluster ${row.name}`, {
      hint: "see them with `coppice operation list`",
    });
  }
  await deleteInstance(tx, instance.id);
  if (instance.passwordSecretId !== null) await deleteSecret(tx, instance.passwordSecretId);
  await updateCluster(tx, row.id);
}
