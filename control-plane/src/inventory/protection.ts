import { create, fromJson } from "@bufbuild/protobuf";
import { type Endpoint, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import type { ClusterInstanceRow } from "../catalog/cluster.ts";
import type { FoundClusterRow } from "../catalog/host.ts";

const loopback = new Set(["localhost", "127.0.0.1", "::1"]);

/** The server that is the found cluster; undefined when that is not protected. */
export function findProtection<S extends Pick<ClusterInstanceRow, "hostId" | "endpoint" | "dataDirectory">>(
  found: FoundClusterRow,
  instances: readonly S[],
): S | undefined {
  return instances.find((instance) => {
    if (instance.hostId !== found.hostId) return false;
    if (instance.dataDirectory !== "") return instance.dataDirectory === found.dataDirectory;
    const endpoint = fromJson(EndpointSchema, instance.endpoint);
    return (endpoint.port || 5432) === found.port && isHere(endpoint, found);
  });
}

function isHere({ address }: Endpoint, found: FoundClusterRow): boolean {
  if (address.case === "socketDirectory") return address.value === found.socketDirectory;
  return address.case === "host" && loopback.has(address.value);
}

/** The endpoint by which a found cluster is protected: its socket where it has one, for there the agent may be a peer. */
export function endpointOf({ socketDirectory, port }: FoundClusterRow): Endpoint {
  return create(EndpointSchema, {
    address:
      socketDirectory === ""
        ? { case: "host", value: "127.0.0.1" }
        : { case: "socketDirectory", value: socketDirectory },
    port,
  });
}
