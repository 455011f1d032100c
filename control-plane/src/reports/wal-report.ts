import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type WalReport, WalReportAckSchema } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";
import { WalArchiverSchema, WalSlotSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { fail } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { findCluster } from "../catalog/cluster.ts";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { holdSession } from "../catalog/operations/claim.ts";
import { noteClusterAnswered } from "../catalog/outcome/reachability.ts";
import { findWalArchive, lockWal, noteWalPositions, type WalPositions } from "../catalog/physical/wal-archive.ts";
import { addExtents, addKnowledge, isTimelineKnown, thinKnowledge } from "../catalog/physical/wal-knowledge.ts";
import { behindSince } from "./behind-since.ts";
import type { AgentSession } from "../fleet/agent-session.ts";
import { microsecondsOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";

/** For so long all that is known of times is kept. */
const keptMs = 7 * 24 * 3_600_000;

/** What became of a report: `unknown` is of a cluster or repository that the catalog does not have. */
export type TakenReport = "stored" | "unknown" | "stale";

/**
 * Stores what an agent told of a cluster's WAL, in one transaction; the same report a second time changes nothing. A server
 * that has answered counts as reached.
 * Nothing of an old session counts. Errors: INVALID_FIELD, TIMELINE_HISTORY_INVALID, CLUSTER_CHANGED for a server that
 * the cluster never was, CLUSTER_NOT_FOUND for a cluster of other hosts.
 */
export async function takeWalReport(
  catalog: Catalog,
  session: Pick<AgentSession, "hostId" | "epoch">,
  report: WalReport,
): Promise<TakenReport> {
  const parsed = parseReport(report);
  const { clusterId, repositoryId, systemIdentifier } = report;
  const { serverTime } = parsed.positions;
  let answeredAfter: Date | null = null;
  const taken = await catalog.transaction(async (tx): Promise<TakenReport> => {
    const isKnown = await lockWal(tx, report);
    if (!(await holdSession(tx, { hostId: session.hostId, sessionEpoch: session.epoch }))) return "stale";
    if (!isKnown) return "unknown";
    await requireOwn(tx, session.hostId, report);
    const server = { clusterId, systemIdentifier };
    const known = await findWalArchive(tx, clusterId);
    const before = known?.reportTime ?? new Date(0);
    const isPresent = known?.hostId === session.hostId && known.systemIdentifier === systemIdentifier;
    const { timeline } = parsed.positions;
    const isBegun =
      known?.reportTime === null ||
      (timeline !== null && timeline !== known?.timeline && !(await isTimelineKnown(tx, server, timeline)));
    const isNews = serverTime !== null && known?.serverTime?.getTime() !== serverTime.getTime();
    // It is newer than the report before, which itself may have been on its way for a while; no clock of a server counts.
    if (isPresent && isNews && report.trouble === undefined) answeredAfter = known.reportTime;
    await addExtents(tx, server, repositoryId, parsed.runs);
    await addKnowledge(tx, server, parsed);
    await thinKnowledge(tx, server, {
      since: new Date(before.getTime() - keptMs),
      before: new Date(Date.now() - keptMs),
    });
    await noteWalPositions(
      tx,
      { ...server, repositoryId, hostId: session.hostId },
      {
        ...parsed.positions,
        behindTime: known ? behindSince(known, parsed.positions, isBegun) : null,
        trouble: datedTrouble(report.trouble, known?.trouble ?? null, new Date()),
      },
    );
    return "stored";
  });
  // On its own: attempts to reach it are noted in another order of locks.
  if (taken === "stored" && answeredAfter)
    await noteClusterAnswered(catalog.db, { clusterId, hostId: session.hostId }, answeredAfter);
  return taken;
}

/** The answer that lets the agent forget the report. */
export function ackOf({ clusterId, number }: WalReport) {
  return { case: "walReportAck", value: create(WalReportAckSchema, { clusterId, number }) } as const;
}

/** Also of an archive that was switched off meanwhile: what is stored is stored. */
async function requireOwn(tx: Database, hostId: string, report: WalReport): Promise<void> {
  const { clusterId, systemIdentifier } = report;
  const cluster = await findCluster(tx, clusterId);
  const archive = await findWalArchive(tx, clusterId);
  const isOwn =
    archive?.hostId === hostId ||
    archive?.deadOwners.some((one) => one.hostId === hostId) ||
    cluster?.instances.some((one) => one.hostId === hostId);
  if (cluster === undefined || !isOwn) return fail("CLUSTER_NOT_FOUND", `the host has no cluster ${clusterId}`);
  if (cluster.incarnations.some((one) => one.systemIdentifier === systemIdentifier)) return;
  fail("CLUSTER_CHANGED", `cluster ${cluster.row.name} never had the system identifier ${systemIdentifier}`);
}

function parseReport(report: WalReport) {
  const { stored, anchors, histories, commits, systemIdentifier } = report;
  if (!/^\d{1,20}$/.test(systemIdentifier)) fail("INVALID_FIELD", "a report on WAL names no server");
  for (const { timeline, content } of histories) parseTimelineHistory(timeline, content);
  return {
    runs: stored.map(({ timeline, startLsn, endLsn }) => ({
      timeline: requireTimeline(timeline),
      startLsn: parseLsn(startLsn),
      endLsn: parseLsn(endLsn),
    })),
    anchors: anchors.map(({ timeline, time, lsn }) => ({
      timeline: requireTimeline(timeline),
      timeUs: time === undefined ? fail("INVALID_FIELD", "an anchor lacks its time") : microsecondsOf(time),
      lsn: parseLsn(lsn),
    })),
    histories: histories.map(({ timeline, content }) => ({ timeline, content })),
    commits: commits.map(({ timeline, startLsn, endLsn, earliestTime, latestTime }) => ({
      timeline: requireTimeline(timeline),
      startLsn: parseLsn(startLsn),
      endLsn: parseLsn(endLsn),
      earliestUs: earliestTime && latestTime ? microsecondsOf(earliestTime) : null,
      latestUs: earliestTime && latestTime ? microsecondsOf(latestTime) : null,
    })),
    positions: positionsOf(report),
  };
}

/** Trouble with the time at which it was told first, as its metadata `since`, as long as it is the same. */
function datedTrouble(trouble: WalReport["trouble"], before: JsonValue, now: Date): JsonValue {
  if (trouble === undefined) return null;
  const was = before === null ? undefined : fromJson(FailureDetailSchema, before, { ignoreUnknownFields: true });
  const since = was?.reason === trouble.reason ? was.metadata["since"] : undefined;
  const metadata = { ...trouble.metadata, since: since ?? now.toISOString() };
  return toJson(FailureDetailSchema, create(FailureDetailSchema, { ...trouble, metadata }));
}

function positionsOf(report: WalReport): Omit<WalPositions, "trouble" | "behindTime"> {
  const { timeline, segmentBytes, receivedLsn, storedLsn, serverLsn, serverTime, slotStatus, archiver } = report;
  const position = (text: string) => (text === "" ? null : parseLsn(text));
  return {
    timeline: timeline === 0 ? null : timeline,
    segmentBytes: segmentBytes === 0n ? null : segmentBytes,
    receivedLsn: position(receivedLsn),
    storedLsn: position(storedLsn),
    serverLsn: position(serverLsn),
    serverTime: serverTime === undefined ? null : timestampDate(serverTime),
    slotStatus,
    archiver: archiver === undefined ? null : toJson(WalArchiverSchema, archiver),
    slot: report.slot === undefined ? null : toJson(WalSlotSchema, report.slot),
    writtenRate: report.writtenBytesPerSecond ?? null,
    storedRate: report.storedBytesPerSecond ?? null,
  };
}

function requireTimeline(timeline: number): number {
  return timeline > 0 ? timeline : fail("INVALID_FIELD", "a report on WAL names timeline 0");
}
