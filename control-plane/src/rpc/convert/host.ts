import { create } from "@bufbuild/protobuf";
import { type Host, HostSchema, HostState } from "@coppice/proto/gen/coppice/control/v1/host";
import type { ClusterInstanceRow } from "../../catalog/cluster.ts";
import type { FoundClusterRow, HostRow } from "../../catalog/host.ts";
import { findProtection } from "../../inventory/protection.ts";
import { formatEtag } from "../etag.ts";
import { times } from "./times.ts";

/** What the catalog knows about hosts besides their rows. */
export interface HostFacts {
  /** Of these and other hosts. */
  readonly found: readonly FoundClusterRow[];
  readonly instances: readonly ClusterInstanceRow[];
  /** By host id. */
  readonly certificateExpiries: ReadonlyMap<string, Date>;
}

export function hostMessage(row: HostRow, facts: HostFacts): Host {
  return create(HostSchema, {
    id: row.id,
    name: row.name,
    labels: row.labels,
    etag: formatEtag(row.version),
    state: HostState[row.state],
    agentVersion: row.agentVersion,
    capabilities: row.capabilities,
    machineName: row.machineName,
    discoveredClusters: facts.found
      .filter(({ hostId }) => hostId === row.id)
      .map((found) => ({
        socketDirectory: found.socketDirectory,
        port: found.port,
        dataDirectory: found.dataDirectory,
        major: found.major,
        owner: found.owner,
        running: found.running,
        runningUnknown: found.runningUnknown,
        systemIdentifier: found.systemIdentifier,
        debianName: found.debianName,
        cluster: findProtection(found, facts.instances)?.clusterId ?? "",
      })),
    ...times({
      createTime: row.createTime,
      updateTime: row.updateTime,
      stateTime: row.stateTime,
      lastSeenTime: row.lastSeenTime,
      certificateExpireTime: facts.certificateExpiries.get(row.id),
    }),
  });
}
