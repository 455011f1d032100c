import type { FoundCluster } from "@coppice/proto/gen/coppice/agent/v1/found_cluster";
import type { InventoryPage } from "@coppice/proto/gen/coppice/agent/v1/inventory";
import { fail } from "@coppice/proto/kit/failure";
import type { Catalog } from "../catalog/catalog.ts";
import { replaceFoundClusters } from "../catalog/fleet/inventory.ts";
import type { AgentSession } from "../fleet/agent-session.ts";

const mostClusters = 10_000;

/** Puts the pages of inventories together; a kind of resource is replaced when its last page has come. */
export interface Inventories {
  take(session: AgentSession, page: InventoryPage): Promise<void>;
}

/** Opens an empty one. Pages that a session leaves behind go with it. */
export function openInventories(catalog: Catalog): Inventories {
  const begun = new WeakMap<AgentSession, { id: string; clusters: FoundCluster[] }>();
  return {
    async take(session, { inventoryId, last, resources }) {
      if (resources.case !== "clusters") return;
      const known = begun.get(session);
      const inventory = known?.id === inventoryId ? known : { id: inventoryId, clusters: [] };
      begun.set(session, inventory);
      inventory.clusters.push(...resources.value.clusters);
      if (inventory.clusters.length > mostClusters) {
        fail("MESSAGE_TOO_LARGE", `the agent of ${session.hostName} reports more than ${mostClusters} clusters`);
      }
      if (!last) return;
      begun.delete(session);
      const rows = inventory.clusters.map((found) => ({
        dataDirectory: found.dataDirectory,
        port: found.port,
        socketDirectory: found.socketDirectory,
        major: found.major,
        owner: found.owner,
        running: found.running,
        runningUnknown: found.runningUnknown,
        systemIdentifier: found.systemIdentifier,
        debianName: found.debianName,
      }));
      await catalog.transaction((tx) => replaceFoundClusters(tx, session.hostId, rows));
    },
  };
}
