import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { writeAudit } from "../audit/audit.ts";
import type { Catalog } from "../catalog/catalog.ts";
import { lockCluster } from "../catalog/cluster.ts";
import { acknowledgeWalEnd } from "../catalog/physical/wal-owner.ts";
import type { AgentSession } from "../fleet/agent-session.ts";

/**
 * Takes in that an agent writes no more of a cluster's WAL, and lets the next one begin; gives whether it moved. What is
 * not waited for, or for that number, changes nothing.
 */
export async function takeWalEnd(
  catalog: Catalog,
  { hostId, hostName }: Pick<AgentSession, "hostId" | "hostName">,
  { clusterId, endedGrant: endNumber, timeline, storedLsn }: WalReport,
  now: Date,
): Promise<boolean> {
  const stored = timeline > 0 && storedLsn !== "" ? { timeline, lsn: parseLsn(storedLsn) } : undefined;
  return await catalog.transaction(async (tx) => {
    const cluster = await lockCluster(tx, clusterId);
    if (cluster === undefined) return false;
    const moved = await acknowledgeWalEnd(tx, { clusterId, hostId, endNumber, stored }, now);
    if (moved === undefined) return false;
    await writeAudit(
      tx,
      {
        principal: `agent:${hostName}`,
        tokenId: null,
        action: "ownership of WAL moves",
        request: {
          to: moved.hostId,
          systemIdentifier: moved.systemIdentifier,
          ...(stored ? { timeline: stored.timeline, storedLsn: formatLsn(stored.lsn) } : {}),
        },
        peerAddress: "",
      },
      cluster.row,
    );
    return true;
  });
}
