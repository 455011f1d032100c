import { create, toJson } from "@bufbuild/protobuf";
import { type Result, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { WalReport } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { AckSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { Failure, failureToDetail, isFailure } from "@coppice/proto/kit/failure";
import type { Logger } from "pino";
import type { Catalog } from "../catalog/catalog.ts";
import { isDriverFailure, isRefusedData } from "../catalog/driver-error.ts";
import { takeAccepted } from "../operations/intake/accepted.ts";
import { takeLog } from "../operations/intake/log.ts";
import { openProgressKeeper } from "../operations/intake/progress-keeper.ts";
import { takeResult } from "../operations/intake/result.ts";
import type { AgentSession } from "../fleet/agent-session.ts";
import type { AgentReport } from "../fleet/fleet.ts";
import { noteStrayArchive, type ToldArchive } from "../catalog/physical/told/stray-archive.ts";
import { noteLeftover } from "../catalog/physical/told/leftover.ts";
import { startFullAfterGap } from "./full-after-gap.ts";
import { openSeenGaps } from "./seen-gaps.ts";
import { takeWalEnd } from "./wal-end.ts";
import { ackOf, takeWalReport } from "./wal-report.ts";
import { openInventories } from "./inventory.ts";

/** Takes in what agents tell, one report of a session after the other. */
export type Receive = (session: AgentSession, report: AgentReport) => Promise<void>;

/**
 * Makes the one that takes in what agents tell. It fails when the catalog is away, which ends the session: the agent
 * tells everything that matters again. What cannot be stored at all would come again for ever: it is logged and dropped,
 * and of a result it is noted that it could not be used.
 */
export function openReceive({
  catalog,
  gapPatienceMs,
  log,
}: {
  readonly catalog: Catalog;
  /** How long a gap in archived WAL has to be seen before a full backup is begun behind it. */
  readonly gapPatienceMs: number;
  readonly log: Logger;
}): Receive {
  const inventories = openInventories(catalog);
  const progress = openProgressKeeper(catalog);
  const seen = openSeenGaps(gapPatienceMs);
  const takeEnd = async (session: AgentSession, result: Result) => {
    const { hostId } = session;
    const { commandId, operationId } = result;
    const take = (told: Result) => catalog.transaction((tx) => takeResult(tx, hostId, told));
    const taken = await take(result).catch((error: unknown) => {
      if (!isHopeless(error)) throw error;
      log.error({ err: error, host: hostId, operation: operationId }, "result cannot be stored");
      return take(unusable(result));
    });
    if (taken === "old") log.info({ host: hostId, operation: operationId, command: commandId }, "stale result ignored");
    progress.forget(operationId);
    // Only now, when it is committed: until then the agent keeps it and tells it again.
    await session.send({ case: "ack", value: create(AckSchema, { commandId }) });
  };
  /** The agent has told all it can: what cannot be begun now is tried again at its next report. */
  const mendGap = async (clusterId: string, about: object) => {
    try {
      const operation = await startFullAfterGap(catalog, clusterId, { seen, now: new Date() });
      if (operation !== undefined) log.warn({ ...about, operation }, "archived WAL has a gap: a full backup is begun");
    } catch (error) {
      if (!isFailure(error) || error.reason === "CATALOG_UNREACHABLE") throw error;
      const { reason, message } = error;
      log.warn({ ...about, reason }, `archived WAL has a gap, and no full backup is begun: ${message}`);
    }
  };
  const take = async (session: AgentSession, report: Exclude<AgentReport, { case: "result" }>) => {
    switch (report.case) {
      case "inventory":
        return await inventories.take(session, report.value);
      case "accepted":
        return await takeAccepted(catalog, session.hostId, report.value);
      case "progress":
        return await progress.take(session.hostId, report.value);
      case "logChunk":
        return await takeLog(catalog, session.hostId, report.value);
      case "walReport": {
        const about = { host: session.hostId, cluster: report.value.clusterId };
        if (report.value.leftover) return await takeLeftover(catalog, session.hostId, report.value);
        const isEnd = report.value.endedGrant > 0n;
        if (!isEnd) await noteStrayArchive(catalog.db, toldArchive(session, report.value), new Date());
        const taken = await takeWalReport(catalog, session, report.value).catch((error: unknown) => {
          // What says nothing that can be used now will say nothing that can be used later.
          if (!isFailure(error) || isFailure(error, "CATALOG_UNREACHABLE")) throw error;
          log.error({ err: error, ...about }, "report on WAL refused");
          return "refused";
        });
        if (taken === "unknown") log.warn(about, "report on WAL of a cluster or into a repository that is gone");
        const hasEnded = taken === "stored" && report.value.endedGrant > 0n;
        if (hasEnded && (await takeWalEnd(catalog, session, report.value, new Date())))
          log.info(about, "the agent writes WAL no more, and the next one begins");
        // Only now, when it is committed: until then the agent tells it again.
        if (taken !== "stale") await session.send(ackOf(report.value));
        if (taken === "stored") await mendGap(report.value.clusterId, about);
        return;
      }
    }
  };
  return async (session, report) => {
    if (report.case === "result") return await takeEnd(session, report.value);
    try {
      await take(session, report);
    } catch (error) {
      if (!isHopeless(error)) throw error;
      log.error({ err: error, host: session.hostId, report: report.case }, "report cannot be stored");
      if (report.case === "walReport") await session.send(ackOf(report.value));
    }
  };
}

/** Nothing is waited for: the agent tells it as long as it is so. */
async function takeLeftover(catalog: Catalog, hostId: string, report: WalReport): Promise<void> {
  const { clusterId, clusterName, systemIdentifier, leftover } = report;
  if (leftover === undefined) return;
  const { slot, isCommanded, trouble } = leftover;
  const left = { systemIdentifier, slot, isCommanded, problem: trouble?.message ?? "" };
  await noteLeftover(catalog.db, { hostId, clusterId, clusterName, leftover: left }, new Date());
}

function toldArchive({ hostId, desiredRevision: heldRevision }: AgentSession, told: WalReport): ToldArchive {
  const { clusterId, clusterName, settings } = told;
  return { hostId, heldRevision, clusterId, clusterName, settings: settings && toJson(WalSettingsSchema, settings) };
}

function isHopeless(error: unknown): boolean {
  return isRefusedData(error) || !(isFailure(error) || isDriverFailure(error));
}

/** The same end without what could not be stored: it counts as failed, whatever the agent did. */
function unusable({ commandId, operationId, attempt, fence }: Result): Result {
  const failure = new Failure("AGENT_ANSWER_INVALID", "the agent's answer cannot be stored");
  return create(ResultSchema, {
    commandId,
    operationId,
    attempt,
    failure: failureToDetail(failure),
    ...(fence ? { fence } : {}),
  });
}
