import type { CheckItem } from "@coppice/proto/gen/coppice/common/v1/check";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { RestoredServerState, type RecoveryTarget } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import type {
  CreatedPhysicalBackup,
  PhysicalPlan,
  RestoredDataDirectory,
} from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { formatSize } from "@coppice/proto/kit/size";
import { namePart, placePart } from "./name-part.ts";
import { describeTakenOf } from "./taken-of.ts";
import { formatRelative } from "../output/elapsed.ts";
import { shellWord } from "../output/shell-word.ts";
import { formatSuccess } from "../output/success.ts";
import type { Terminal } from "../output/terminal.ts";
import { instantOf, timeOf } from "../output/time.ts";

/** What the text about an end is made with; `took` says how long it worked. */
interface Context {
  readonly paint: Terminal["paint"];
  readonly took: string;
}

/** What a physical backup says at its end. */
export function formatCreatedPhysicalBackup(
  created: CreatedPhysicalBackup,
  operation: Operation,
  { paint, took }: Context,
): string {
  const { spec, hostName } = operation;
  const cluster = spec.case === "createPhysicalBackup" ? spec.value.clusterName : "";
  const isIncremental = created.kind === BackupKind.INCREMENTAL;
  const isByWal = isIncremental && created.method === IncrementalMethod.WAL;
  const sizes = isByWal
    ? `${formatSize(created.dataBytes)} of WAL → ${formatSize(created.walBytes)}`
    : `${formatSize(created.dataBytes)} → ${formatSize(created.storedBytes)}`;
  const isArchived = spec.case === "createPhysicalBackup" && spec.value.walRepository !== "";
  const wal = isArchived ? "in the archive" : "in the backup";
  const reached = isByWal ? "restored by replay to its end" : "consistent at its end";
  const facts = [`WAL from ${created.startLsn} to ${created.stopLsn}, ${wal}, ${reached}`];
  facts.push(...describeTakenOf(operation));
  if (isIncremental && created.parent) facts.push(`what has changed since ${created.parent}`);
  if (created.fullReason) facts.push(`! it became a full backup: ${created.fullReason}`);
  if (created.corruptPages) facts.push("! pages failed their checksums, which was accepted: restore and check it");
  facts.push(...created.missingConfiguration.map((each) => `! its configuration lacks ${each}`));
  if (created.missingConfiguration.length > 0)
    facts.push(`what is restored gets plain files instead; what mends it: coppice cluster check ${cluster}`);
  return formatSuccess(
    paint,
    `${created.backup}  ${isIncremental ? "incremental" : "full"}, ${sizes} in ${took}, checked`,
    {
      facts,
      next: `coppice restore plan ${cluster} --backup ${created.backup} --to ${hostName || "HOST"}:/EMPTY/DIRECTORY --immediate${isByWal ? " --start" : ""}`,
    },
  );
}

/** What a restored data directory says at its end. */
export function formatRestoredDataDirectory(
  restored: RestoredDataDirectory,
  { spec, hostName }: Operation,
  { paint, took }: Context,
): string {
  const cluster = spec.case === "restorePhysical" ? spec.value.clusterName : "the cluster";
  const sizes = `${formatSize(restored.bytesRead)} read and checked, ${formatSize(restored.dataBytes)} written`;
  const facts = restored.started
    ? describeServer(restored)
    : ["its server was not started: it recovers to the target when it is"];
  facts.push("it archives no WAL until it is told to");
  if (restored.keptAs) facts.push(`what was there is kept as ${restored.keptAs}: remove it when nobody needs it`);
  facts.push(...restored.warnings.map((warning) => `! ${warning}`));
  return formatSuccess(paint, `${cluster} is restored in ${hostName}:${restored.dataDirectory}: ${sizes}, in ${took}`, {
    facts,
    next:
      restored.started && restored.serverState !== RestoredServerState.SHUT_DOWN
        ? "coppice cluster list --discovered"
        : `as the server's user on ${hostName}: ${pgCtl(restored)} -D ${shellWord(restored.dataDirectory)} start`,
  });
}

/** By its path: in that of a shell there is none, or one of another version. */
const pgCtl = ({ programFolder }: RestoredDataDirectory) =>
  programFolder === "" ? "pg_ctl" : shellWord(`${programFolder}/pg_ctl`);

function describeServer(restored: RestoredDataDirectory): string[] {
  const { endLsn, lastCommitTime, timeline, serverState, dataDirectory } = restored;
  const address = restored.address ? ` at ${restored.address}` : "";
  const commit = instantOf(lastCommitTime);
  const last = commit ? `; the last transaction in it is of ${commit}` : "";
  const byHand = `nobody starts it after a reboot: to hand it to your service manager, \`${pgCtl(restored)} -D ${shellWord(dataDirectory)} stop\` and start it there`;
  switch (serverState) {
    case RestoredServerState.PAUSED:
      return [
        `its server waits${address}, at its target on timeline ${timeline}, and can be read but not written`,
        `recovery is at ${endLsn}${last}; \`select pg_wal_replay_resume()\` ends it there`,
        byHand,
      ];
    case RestoredServerState.SHUT_DOWN:
      return [
        `its server has shut down at its target, on timeline ${timeline}`,
        `recovery is at ${endLsn}${last}; the server ends it there when it is started again`,
      ];
    case RestoredServerState.RUNNING:
    case RestoredServerState.UNSPECIFIED:
      return [`its server runs${address}, on timeline ${timeline}`, `recovery ended at ${endLsn}${last}`, byHand];
  }
}

/** A plan of a restore of a data directory, for people. */
export interface DescribedPhysicalPlan {
  readonly good: string;
  readonly bad: string;
  readonly facts: readonly string[];
  readonly items: readonly CheckItem[];
}

/** What such a plan says: its verdict either way, what would be done, and what was looked at. */
export function describePhysicalPlan(plan: PhysicalPlan, operation: Operation, now: Date): DescribedPhysicalPlan {
  const { spec, hostName } = operation;
  const part = spec.case === "planPart" ? spec.value.part : undefined;
  const restore = spec.case === "planPhysical" ? spec.value.restore : part?.restore;
  const as = describeTarget(restore?.target);
  const when = plan.chain.length > 1 ? "the newest of" : "taken";
  const age = plan.backupTime ? `, ${when} ${formatRelative(timeOf(plan.backupTime), now)}` : "";
  const facts = [`from ${plan.chain.join(", then ")}${age}`];
  if (plan.startLsn) facts.push(describeReplay(plan, restore?.walRepository === ""));
  const end = instantOf(plan.endTime);
  if (end) facts.push(`everything that was committed until ${end} will be there, except what unlogged tables hold`);
  const told = describeTarget(plan.serverTarget);
  if (plan.serverTarget && told !== as) facts.push(`the server is told to end recovery ${told}`);
  const free = plan.freeBytes === undefined ? "" : `, ${formatSize(plan.freeBytes)} free`;
  facts.push(
    `reads ${formatSize(plan.storedBytes)}, writes about ${formatSize(plan.dataBytes)}; needs ${formatSize(plan.neededBytes)}${free}`,
    ...plan.steps.map((step, index) => `${index + 1}. ${step}`),
  );
  const name = part ? namePart(part) : (restore?.clusterName ?? "the cluster");
  const where = part ? placePart(part, hostName) : `into ${hostName}:${restore?.dataDirectory ?? ""}`;
  return {
    good: `${name} can be restored ${where}, ${as}; nothing was touched`,
    bad: `${name} cannot be restored ${where}, ${as}; nothing was touched`,
    facts,
    items: plan.items,
  };
}

function describeReplay({ startLsn, endLsn, timelines, segments }: PhysicalPlan, isEmbedded: boolean): string {
  const range = `WAL from ${startLsn}${endLsn ? ` to ${endLsn}` : ""}`;
  const path = timelines.length > 1 ? ` through timelines ${timelines.join(", ")}` : "";
  if (isEmbedded) return `replays the ${range} that is in the backup`;
  return `replays ${range}${path}, at most ${segments} segment${segments === 1 ? "" : "s"}`;
}

/** Where recovery ends, in words. */
export function describeTarget(target: RecoveryTarget | undefined): string {
  const { point, exclusive } = target ?? { point: { case: undefined }, exclusive: false };
  switch (point.case) {
    case "time":
      return exclusive ? `before ${instantOf(point.value)}` : `as it was at ${instantOf(point.value)}`;
    case "lsn":
      return `${exclusive ? "before" : "at"} WAL position ${point.value}`;
    case "xid":
      return `${exclusive ? "before" : "after"} transaction ${point.value}`;
    case "name":
      return `at the restore point ${point.value}`;
    case "immediate":
      return "at the end of the backup";
    case undefined:
      return "at the latest point there is";
  }
}
