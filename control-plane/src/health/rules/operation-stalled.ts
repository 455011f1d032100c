import { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";
import type { Rule, StalledFact } from "./facts.ts";

/** For so long work that tells what it does may tell nothing new. */
export const stalledMs = 30 * 60_000;
/** And for so long that of which nothing can be counted, such as the indexes of a large database that is restored. */
const quietMs = 6 * 3_600_000;

/** What they do takes as long as it takes, and tells nothing meanwhile. */
const quietPhases = new Set(["restoring", "comparing", "comparing with the live rows", "combining", "syncing"]);
const quietKinds = new Set(["delete_backup", "clean_repository", "clean_wal"]);

/** Work that is under way by all that is known, and does not move: it may wait for something that never comes. */
export const operationStalled: Rule = ({ stalledOperations }, now) =>
  stalledOperations
    .filter((stalled) => !saysWhatItWaitsFor(stalled))
    .filter((stalled) => now.getTime() - stalled.since.getTime() >= patienceOf(stalled))
    .map((stalled) => {
      const { operationId, clusterName, hostName, since, isCancelled } = stalled;
      const server = clusterName === null ? "" : `the server of ${clusterName} and at `;
      const look = `${server}the agent of ${hostName}, journalctl -u coppice-agent`;
      return {
        rule: "operation-stalled",
        subject: operationId,
        subjectName: clusterName ?? operationId,
        severity: Severity.WARNING,
        since,
        message: messageOf(stalled, now),
        fix: isCancelled
          ? `systemctl restart coppice-agent    # on ${hostName}; first look at ${look}`
          : `coppice operation cancel ${operationId}    # first look at ${look}`,
      };
    });

/** The agent itself ends these waits: after the time that was asked for, and when the server answers nobody any more. */
const watchedPhases = new Set(["waiting for WAL", "waiting for checkpoint"]);

function saysWhatItWaitsFor({ phase, item, isCancelled }: StalledFact): boolean {
  return watchedPhases.has(phase) && item !== "" && !isCancelled;
}

function patienceOf({ phase, item, kind }: StalledFact): number {
  // Of its files of WAL a server tells when it replays them; before, it may sync all of its data directory.
  const isQuiet = quietPhases.has(phase) || quietKinds.has(kind) || (phase === "recovering" && item === "");
  return isQuiet ? quietMs : stalledMs;
}

function messageOf({ operationId, kind, clusterName, hostName, ...stalled }: StalledFact, now: Date): string {
  const { phase, item, since, isCancelled } = stalled;
  const minutes = Math.floor((now.getTime() - since.getTime()) / 60_000);
  const what = `operation ${operationId} (${kind.replaceAll("_", " ")}${clusterName === null ? "" : ` of cluster ${clusterName}`}) on ${hostName}`;
  const where = phase === "" ? "it has told nothing yet" : `it is at ${[phase, item].filter(Boolean).join(" ")}`;
  return `${what} ${isCancelled ? "was cancelled and has not ended" : "has not moved"} for ${minutes} min: ${where}`;
}
