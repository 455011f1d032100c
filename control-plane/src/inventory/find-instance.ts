import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import type { ClusterInstanceRow, ClusterRecord } from "../catalog/cluster.ts";
import { findHost } from "../catalog/host.ts";

function placeOf(endpoint: JsonValue): string {
  const { address, port } = fromJson(EndpointSchema, endpoint);
  return `${address.value ?? "its service"}:${port || 5432}`;
}

/** The server of a cluster of that id, or the only one by the agent of the host of that name or id. Errors: INSTANCE_NOT_FOUND. */
export async function requireInstance(
  db: Database,
  { row, instances }: ClusterRecord,
  reference: string,
): Promise<ClusterInstanceRow> {
  const byId = instances.find(({ id }) => id === reference);
  if (byId) return byId;
  const host = await findHost(db, reference);
  const [only, ...others] = instances.filter(({ hostId }) => hostId === host?.id);
  const hint = `see them: coppice cluster get ${row.name}`;
  if (only === undefined) {
    return fail("INSTANCE_NOT_FOUND", `cluster ${row.name} has no server ${reference}`, { hint });
  }
  if (others.length === 0) return only;
  const ids = [only, ...others].map(({ id, endpoint }) => `${id} at ${placeOf(endpoint)}`).join(", ");
  return fail("INSTANCE_NOT_FOUND", `cluster ${row.name} has several servers by the agent of ${reference}: ${ids}`, {
    hint: "name one by its id",
  });
}
