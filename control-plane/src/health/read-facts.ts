import { fromJson } from "@bufbuild/protobuf";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { lastGoodDumps, listDamagedCopies } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import { listClusters } from "../catalog/cluster.ts";
import { listHosts } from "../catalog/host.ts";
import { lastGoodPhysicals } from "../catalog/physical/last-good.ts";
import { listAllWalArchives } from "../catalog/physical/wal-archive.ts";
import { findWalGap } from "../catalog/physical/wal-gap.ts";
import { anchorTimeBefore } from "../catalog/physical/wal-knowledge.ts";
import { listRepositories } from "../catalog/repository.ts";
import type { HealthFacts, WalArchiveFact } from "./rules/facts.ts";

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
    damagedCopies: await listDamagedCopies(db),
    repositories: await listRepositories(db),
    walArchives: await readWalArchives(db, new Map(clusters.map(({ row }) => [row.id, row.name]))),
  };
}

async function readWalArchives(db: Database, names: ReadonlyMap<string, string>): Promise<WalArchiveFact[]> {
  const facts: WalArchiveFact[] = [];
  for (const archive of await listAllWalArchives(db)) {
    const { clusterId: id, createTime, reportTime, slotStatus, trouble } = archive;
    const told = trouble === null ? null : fromJson(FailureDetailSchema, trouble, { ignoreUnknownFields: true });
    const since = told?.metadata["since"];
    const gap = await findWalGap(db, archive);
    const lastUs = gap && (await anchorTimeBefore(db, archive, { timeline: gap.timeline, lsn: gap.startLsn }));
    facts.push({
      id,
      name: names.get(id) ?? id,
      reportTime,
      slotStatus,
      trouble: told && {
        message: told.message,
        since: since === undefined ? (reportTime ?? createTime) : new Date(since),
      },
      gap: gap ? { ...gap, since: lastUs === undefined ? createTime : new Date(Number(lastUs / 1000n)) } : null,
    });
  }
  return facts;
}
