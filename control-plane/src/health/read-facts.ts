import { fromJson } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Run } from "@coppice/proto/kit/recovery/merge-runs";
import { headerEnd, recordEnd } from "@coppice/proto/kit/wal/record-end";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { slotName } from "@coppice/proto/kit/wal/slot-name";
import { lastGoodDumps, listDamagedCopies } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import { listClusters, mainInstance } from "../catalog/cluster.ts";
import { type HostRow, listHosts } from "../catalog/host.ts";
import { listPhysicalCopies } from "../catalog/physical/copies.ts";
import { lastGoodPhysicals } from "../catalog/physical/last-good.ts";
import { type Leftover, listLeftovers } from "../catalog/physical/told/leftover.ts";
import { listStrayArchives } from "../catalog/physical/told/stray-archive.ts";
import { listAllWalArchives, type WalArchiveRow } from "../catalog/physical/wal-archive.ts";
import { findUnled, findWalGap, listStretches } from "../catalog/physical/wal-gap.ts";
import { anchorTimeBefore, anchorTimeBehind, firstAnchorFrom } from "../catalog/physical/wal-knowledge.ts";
import { listLost } from "../catalog/physical/wal-lost.ts";
import { listHeld } from "../catalog/operations/held.ts";
import { listStalled } from "../catalog/operations/stalled.ts";
import { listRepositories } from "../catalog/repository.ts";
import type {
  HealthFacts,
  LeftoverFact,
  LostWalFact,
  StrayArchiveFact,
  UnledArchiveFact,
  WalArchiveFact,
} from "./rules/facts.ts";
import { stalledMs } from "./rules/operation-stalled.ts";
import { undecidedMs } from "./rules/restore-undecided.ts";

/** Reads what the rules look at. */
export async function readHealthFacts(db: Database, now: Date): Promise<HealthFacts> {
  const hosts = await listHosts(db);
  const clusters = await listClusters(db);
  const dumps = await lastGoodDumps(db, { of: "present" });
  const physicals = await lastGoodPhysicals(db, { of: "present" });
  const repositories = await listRepositories(db);
  const names = namesOf(clusters.map(({ row }) => row));
  const hostNames = namesOf(hosts);
  return {
    hosts: hosts.map(({ id, name, state, stateTime }) => ({
      id,
      name,
      state,
      stateTime,
      clusters: clusters.filter(({ instances }) => instances.some(({ hostId }) => hostId === id)).length,
    })),
    clusters: clusters.map(({ row, ...known }) => ({
      ...row,
      hasGoodBackup: dumps.has(row.id) || physicals.has(row.id),
      servers: known.instances.map(({ id, hostId, role, reachableTime, unreachableSince, problem }) => ({
        id,
        hostName: hostNames.get(hostId) ?? hostId,
        isMain: mainInstance(known)?.id === id,
        isPrimary: role === "PRIMARY" && !known.awayHostIds.has(hostId),
        seenTime: reachableTime,
        unreachableSince,
        problem,
      })),
    })),
    damagedCopies: await listDamagedCopies(db),
    repositories,
    walArchives: await readWalArchives(db, names, hosts),
    unledArchives: await readUnledArchives(db, names, namesOf(repositories)),
    lostWal: await readLostWal(db, names, namesOf(repositories)),
    strayArchives: await readStrayArchives(db, names, now),
    leftovers: await readLeftovers(db, now),
    heldDatabases: await listHeld(db, new Date(now.getTime() - undecidedMs)),
    stalledOperations: await listStalled(db, new Date(now.getTime() - stalledMs)),
  };
}

type Names = ReadonlyMap<string, string>;

function namesOf(rows: readonly { readonly id: string; readonly name: string }[]): Names {
  return new Map(rows.map(({ id, name }) => [id, name]));
}

/** What is lost, as long as there is a backup that would be recovered through it. */
async function readLostWal(db: Database, clusters: Names, repositories: Names): Promise<LostWalFact[]> {
  const facts: LostWalFact[] = [];
  for (const [clusterId, runs] of Map.groupBy(await listLost(db, {}), (run) => run.clusterId)) {
    const copies = (await listPhysicalCopies(db, clusterId)).filter(({ state }) => state === "STORED");
    for (const { systemIdentifier, repositoryId, startLsn, endLsn, foundTime } of runs) {
      if (!copies.some((copy) => copy.systemIdentifier === systemIdentifier && copy.startLsn < endLsn)) continue;
      const clusterName = clusters.get(clusterId) ?? clusterId;
      const repositoryName = repositories.get(repositoryId) ?? repositoryId;
      facts.push({ clusterId, clusterName, repositoryName, startLsn, endLsn, foundTime });
    }
  }
  return facts;
}

async function readStrayArchives(db: Database, names: Names, now: Date): Promise<StrayArchiveFact[]> {
  const archived = new Set((await listAllWalArchives(db)).map(({ clusterId }) => clusterId));
  return (await listStrayArchives(db, now)).map((stray) => {
    const { clusterId } = stray;
    const name = names.get(clusterId);
    const known = name === undefined ? "no" : archived.has(clusterId) ? "archived" : "cluster";
    return { ...stray, clusterName: name ?? stray.clusterName, known };
  });
}

async function readLeftovers(db: Database, now: Date): Promise<LeftoverFact[]> {
  const archives = new Map((await listAllWalArchives(db)).map((archive) => [archive.clusterId, archive]));
  return (await listLeftovers(db, now))
    .map((left) => ({ ...left, archive: archives.get(left.clusterId) }))
    .filter(({ archive, ...left }) => !archive || !usesSlot(archive, left))
    .map(({ archive, ...left }) => ({ ...left, present: presentOf(archive, left) }));
}

function presentOf(archive: WalArchiveRow | undefined, left: Leftover): LeftoverFact["present"] {
  if (archive === undefined) return "none";
  return archive.systemIdentifier === left.systemIdentifier ? "same server" : "other server";
}

/** What an agent could not take away before it went, and another one archives by since. */
function usesSlot({ clusterId, systemIdentifier, settings }: WalArchiveRow, left: Leftover): boolean {
  const { slot } = fromJson(WalSettingsSchema, settings, { ignoreUnknownFields: true });
  return systemIdentifier === left.systemIdentifier && slotName(slot, clusterId) === left.slot;
}

async function readUnledArchives(db: Database, names: Names, repositories: Names): Promise<UnledArchiveFact[]> {
  const facts: UnledArchiveFact[] = [];
  for (const archive of await listAllWalArchives(db)) {
    const { clusterId, repositoryId, createTime, beginTime, grantTime } = archive;
    const unled = await findUnled(db, archive);
    if (unled === undefined || (await findWalGap(db, archive)) !== undefined) continue;
    const clusterName = names.get(clusterId) ?? clusterId;
    facts.push({
      ...unled,
      clusterId,
      clusterName,
      repositoryName: repositories.get(repositoryId) ?? repositoryId,
      since: unled.isBackedUp ? (beginTime ?? grantTime) : createTime,
    });
  }
  return facts;
}

async function readWalArchives(db: Database, names: Names, hosts: readonly HostRow[]): Promise<WalArchiveFact[]> {
  const facts: WalArchiveFact[] = [];
  for (const archive of await listAllWalArchives(db)) {
    const { clusterId: id, createTime, reportTime, slotStatus, trouble, nextTime } = archive;
    const owner = hosts.find((host) => host.id === archive.hostId);
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
      awaited: nextTime && {
        hostName: owner?.name ?? archive.hostId,
        isConnected: owner?.state === "CONNECTED",
        since: nextTime,
      },
      present:
        owner?.state === "CONNECTED"
          ? { hostName: owner.name, since: owner.stateTime > archive.grantTime ? owner.stateTime : archive.grantTime }
          : null,
      behind: await readBehind(db, archive),
      gap: gap ? { ...gap, since: lastUs === undefined ? createTime : new Date(Number(lastUs / 1000n)) } : null,
    });
  }
  return facts;
}

/** By positions and the server's clock: what the archive is in trouble with, or not, is no part of it. */
async function readBehind(db: Database, archive: WalArchiveRow): Promise<WalArchiveFact["behind"]> {
  const { timeline, segmentBytes, storedLsn, serverLsn, serverTime, storedRate, grantTime, behindTime } = archive;
  if (serverLsn === null || serverTime === null || segmentBytes === null || timeline === null) return null;
  // Where nothing was stored yet, what was there at the beginning is none of it.
  const toldLsn = storedLsn ?? (await firstAnchorFrom(db, archive, grantTime))?.lsn;
  const endLsn = recordEnd(serverLsn, segmentBytes);
  if (toldLsn === undefined || endLsn <= toldLsn) return null;
  // An agent that begins anew tells no position until it stores more, and one from before a promotion may be left.
  const stretches = await listStretches(db, archive);
  const isTold = (one: Run) => one.startLsn <= toldLsn && toldLsn <= one.endLsn;
  const stretch = storedLsn === null ? stretches.at(-1) : stretches.find(isTold);
  const fromLsn = stretch && stretch.endLsn > toldLsn ? stretch.endLsn : toldLsn;
  if (endLsn <= fromLsn) return null;
  const position = { timeline, lsn: headerEnd(fromLsn, segmentBytes) };
  const lastUs = await anchorTimeBefore(db, archive, position);
  // By a clock that was set back since, what came later has an earlier time.
  const laterUs = await anchorTimeBehind(db, archive, { ...position, from: grantTime });
  const sinceUs = lastUs === undefined || laterUs === undefined || lastUs < laterUs ? lastUs : laterUs;
  const writtenTime = sinceUs === undefined ? grantTime : new Date(Number(sinceUs / 1000n));
  // Older WAL was stored elsewhere, or is the business of the archive of before.
  const since = behindTime !== null && behindTime > writtenTime ? behindTime : writtenTime;
  const settings = fromJson(WalSettingsSchema, archive.settings, { ignoreUnknownFields: true });
  return {
    bytes: endLsn - fromLsn,
    since,
    ageMs: serverTime.getTime() - since.getTime(),
    maxAgeMs: settings.maxAge ? durationMs(settings.maxAge) : 0,
    isMoving: storedRate !== null && storedRate > 0n,
  };
}
