import { lastGoodDumps } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import { listClusters } from "../catalog/cluster.ts";
import { listHosts } from "../catalog/host.ts";
import { lastGoodPhysicals } from "../catalog/physical/last-good.ts";
import { listRepositories } from "../catalog/repository.ts";
import type { HealthFacts } from "./rules/facts.ts";

/** Reads what the rules look at. */
export async function readHealthFacts(db: Database): Promise<HealthFacts> {
  const hosts = await listHosts(db);
  const clusters = await listClusters(db);
  const dumps = await lastGoodDumps(db, { of: "present" });
  const physicals = await lastGoodPhysicals(db, { of: "present" });
  return {
    hosts: hosts.map(({ id, name, state, stateTime }) => ({
      id,
      name,
      state,
      stateTime,
      clusters: clusters.filter(({ instances }) => instances.some(({ hostId }) => hostId === id)).length,
    })),
    clusters: clusters.map(({ row }) => ({ ...row, hasGoodBackup: dumps.has(row.id) || physicals.has(row.id) })),
    repositories: await listRepositories(db),
  };
}
