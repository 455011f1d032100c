import type { KeyObject } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import type { UpdateClusterRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { hasActiveOperations } from "../catalog/active-operations.ts";
import { type ClusterInstanceRow, type ClusterRecord, updateCluster, updateInstance } from "../catalog/cluster.ts";
import { changeDesiredOf } from "../catalog/physical/desired.ts";
import { findWalArchive } from "../catalog/physical/wal-archive.ts";
import { deleteSecret } from "../catalog/secret.ts";
import { requireAddress, sealPassword } from "./protect-cluster.ts";
import { requireInstance } from "./find-instance.ts";
import { requireHost } from "./require.ts";

const changeable = ["name", "labels", "endpoint", "password", "host"] as const;

/**
 * Changes the fields that the mask names; gives whether the server whose WAL is archived is with another host now, so that
 * what its agent does by itself has to move. Errors: INVALID_FIELD, NAME_TAKEN, HOST_NOT_FOUND, INSTANCE_NOT_FOUND,
 * CLUSTER_IN_USE.
 */
export async function changeCluster(
  tx: Database,
  masterKey: KeyObject,
  cluster: ClusterRecord,
  request: UpdateClusterRequest,
): Promise<{ readonly isMoved: boolean }> {
  const { row } = cluster;
  const mask = parseMask(request.updateMask?.paths ?? []);
  if (mask.has("name") && request.name === "") refuse("name", "a name");
  const isOfServer = mask.has("endpoint") || mask.has("password") || mask.has("host");
  if (!isOfServer && request.instance !== "") refuse("instance", "nothing where no endpoint, password or host changes");
  const instance = isOfServer ? await changedInstance(tx, cluster, request.instance) : undefined;
  await updateCluster(tx, row.id, {
    ...(mask.has("name") ? { name: request.name } : {}),
    ...(mask.has("labels") ? { labels: request.labels } : {}),
    updateTime: new Date(),
  });
  if (instance === undefined) return { isMoved: false };
  const isArchived = (await findWalArchive(tx, row.id))?.hostId === instance.hostId;
  const isMoved = mask.has("host") && (await moveInstance(tx, cluster, instance, request.host)) && isArchived;
  // The agent of before keeps to the server that it was told of, until it has ended.
  if (!isMoved && (mask.has("endpoint") || mask.has("password"))) await changeDesiredOf(tx, { clusterId: row.id });
  if (mask.has("endpoint")) {
    // Where the data lies there is for the next check to say.
    const endpoint = toJson(EndpointSchema, requireAddress(request.endpoint));
    await updateInstance(tx, instance.id, { endpoint, role: "UNSPECIFIED", dataDirectory: "" });
  }
  if (mask.has("password")) {
    const passwordSecretId = await sealPassword(tx, masterKey, row.name, request.password);
    await updateInstance(tx, instance.id, { passwordSecretId });
    if (instance.passwordSecretId !== null) await deleteSecret(tx, instance.passwordSecretId);
  }
  return { isMoved };
}

/** The server that is changed: the one that is named, or the only one. */
async function changedInstance(tx: Database, cluster: ClusterRecord, reference: string): Promise<ClusterInstanceRow> {
  const { row, instances } = cluster;
  const [only, ...others] = instances;
  if (only === undefined) {
    return fail("CLUSTER_WITHOUT_SERVER", `cluster ${row.name} is known from its backups only`, {
      hint: `name its server: coppice cluster add ${row.name} --host HOST`,
    });
  }
  if (reference !== "") return requireInstance(tx, cluster, reference);
  if (others.length === 0) return only;
  return fail("INVALID_FIELD", `cluster ${row.name} has ${instances.length} servers: say which one`, {
    hint: `give --instance, its id or the name of its host: coppice cluster get ${row.name}`,
    fields: [{ field: "instance", expected: "a server of the cluster" }],
  });
}

/** Whether that is another host than before. */
async function moveInstance(
  tx: Database,
  { row: { id: clusterId, name } }: ClusterRecord,
  { id, hostId }: ClusterInstanceRow,
  reference: string,
): Promise<boolean> {
  const host = await requireHost(tx, reference);
  if (host.id === hostId) return false;
  if (await hasActiveOperations(tx, { clusterId })) {
    fail("CLUSTER_IN_USE", `operations that have not ended use cluster ${name}`, {
      hint: "see them with `coppice operation list`; of a host that is dead: coppice operation resolve ID --abandon",
    });
  }
  await updateInstance(tx, id, { hostId: host.id, role: "UNSPECIFIED", dataDirectory: "" });
  return true;
}

function parseMask(paths: readonly string[]): ReadonlySet<(typeof changeable)[number]> {
  if (paths.length === 0) refuse("update_mask", `at least one of ${changeable.join(", ")}`);
  return new Set(
    paths.map(
      (path) =>
        changeable.find((known) => known === path) ??
        refuse("update_mask", `nothing but ${changeable.join(", ")}`, path.slice(0, 100)),
    ),
  );
}

function refuse(field: string, expected: string, value?: string): never {
  return fail("INVALID_FIELD", `${field}: expected ${expected}`, {
    fields: [{ field, expected, ...(value === undefined ? {} : { value }) }],
  });
}
