import type { KeyObject } from "node:crypto";
import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Endpoint, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import type { CreateClusterRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import { insertCluster, insertInstance, listClusterInstances, lockCluster } from "../catalog/cluster.ts";
import { type FoundClusterRow, type HostRow, listFoundClusters } from "../catalog/host.ts";
import { insertSecret } from "../catalog/secret.ts";
import { seal } from "../secrets/seal.ts";
import { endpointOf, findProtection } from "./protection.ts";
import { requireHost } from "./require.ts";

/**
 * Puts a cluster under protection; nothing is sent to it. `claim` gives the id of the cluster that the same request
 * made before, if it did. Errors: HOST_NOT_FOUND, NAME_TAKEN, CLUSTER_AMBIGUOUS, INVALID_FIELD.
 */
export async function protectCluster(
  tx: Database,
  masterKey: KeyObject,
  request: CreateClusterRequest,
  claim: (id: string) => Promise<string | undefined>,
): Promise<{ id: string; isNew: boolean }> {
  const id = newId("cls");
  const earlier = await claim(id);
  if (earlier !== undefined) return { id: earlier, isNew: false };
  const server = await findServer(tx, masterKey, request);
  // One that a repository told of keeps its id, and with it its backups; its first check says whether it is the same.
  const known = await lockCluster(tx, request.name);
  if (known?.instances.length === 0) {
    await insertInstance(tx, { ...server, clusterId: known.row.id });
    return { id: known.row.id, isNew: true };
  }
  await insertCluster(tx, { id, name: request.name, labels: request.labels }, { ...server, clusterId: id });
  return { id, isNew: true };
}

/** A server that is to be protected, its password sealed. */
export interface NewServer {
  readonly id: string;
  readonly hostId: string;
  /** coppice.common.v1.Endpoint as proto JSON. */
  readonly endpoint: JsonValue;
  readonly dataDirectory: string;
  readonly passwordSecretId: string | null;
}

/**
 * The server at the endpoint, or, where none is given, the only unprotected one that runs on the host. Errors:
 * HOST_NOT_FOUND, CLUSTER_AMBIGUOUS, INVALID_FIELD.
 */
export async function findServer(
  tx: Database,
  masterKey: KeyObject,
  request: Pick<CreateClusterRequest, "host" | "endpoint" | "password" | "name">,
): Promise<NewServer> {
  const host = await requireHost(tx, request.host);
  const found = await listFoundClusters(tx, [host.id]);
  const chosen = request.endpoint === undefined ? await chooseFound(tx, host, found) : undefined;
  const endpoint = chosen === undefined ? requireAddress(request.endpoint) : endpointOf(chosen);
  const json = toJson(EndpointSchema, endpoint);
  const place = { hostId: host.id, endpoint: json, dataDirectory: "" };
  const same = chosen ?? found.find((one) => findProtection(one, [place]) !== undefined);
  return {
    ...place,
    id: newId("ins"),
    dataDirectory: same?.dataDirectory ?? "",
    passwordSecretId: await sealPassword(tx, masterKey, request.name, request.password),
  };
}

/** Stores a password sealed; gives its id, null for none. */
export async function sealPassword(
  tx: Database,
  masterKey: KeyObject,
  cluster: string,
  password: string,
): Promise<string | null> {
  if (password === "") return null;
  const id = newId("sec");
  await insertSecret(tx, { id, purpose: `password of cluster ${cluster}`, sealed: seal(masterKey, id, password) });
  return id;
}

/** Refuses an endpoint that names no place. Errors: INVALID_FIELD. */
export function requireAddress(endpoint: Endpoint | undefined): Endpoint {
  if (endpoint !== undefined && (endpoint.address.case !== undefined || endpoint.service !== "")) return endpoint;
  return fail("INVALID_FIELD", "endpoint names neither a socket, nor a host, nor a service", {
    fields: [{ field: "endpoint", expected: "one of socket_directory, host or service" }],
  });
}

async function chooseFound(tx: Database, host: HostRow, found: readonly FoundClusterRow[]): Promise<FoundClusterRow> {
  const instances = await listClusterInstances(tx);
  const free = found.filter((one) => one.running && findProtection(one, instances) === undefined);
  const [only, ...others] = free;
  if (only === undefined) {
    return fail("CLUSTER_AMBIGUOUS", `no unprotected cluster runs on ${host.name}, as far as its agent has seen`);
  }
  if (others.length === 0) return only;
  const places = free.map(({ socketDirectory, port }) => `${socketDirectory || "127.0.0.1"} port ${port}`).join(", ");
  return fail("CLUSTER_AMBIGUOUS", `several unprotected clusters run on ${host.name}: ${places}`, {
    metadata: { clusters: places },
  });
}
