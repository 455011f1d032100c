import { BackupKind, BackupKindSchema } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import {
  type Backup,
  CopyState,
  CopyStateSchema,
  type PhysicalBackup,
} from "@coppice/proto/gen/coppice/control/v1/backup";
import { MissingReasonSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { isWholeCluster } from "@coppice/proto/kit/repository/default-set";
import { leftOutOfCluster, leftOutOfDatabases } from "@coppice/proto/kit/repository/left-out";
import { formatSize } from "@coppice/proto/kit/size";
import { formatDetails } from "../../output/details.ts";
import { formatElapsed, formatRelative } from "../../output/elapsed.ts";
import { enumLabel } from "../../output/enum-label.ts";
import { formatTable } from "../../output/table.ts";
import { timeOf } from "../../output/time.ts";
import { backupTree } from "./tree.ts";

/** In one word whether a backup is good: incomplete, damaged, being deleted, of a broken chain, with corrupt pages, less than the cluster on purpose, or good. */
function health({ complete, copies, dump, physical }: Backup): string {
  if (copies.some(({ state }) => state === CopyState.DAMAGED)) return "damaged";
  if (copies.some(({ state }) => state === CopyState.DELETING)) return "deleting";
  if (copies.some(({ chainProblem }) => chainProblem !== "")) return "broken chain";
  if (!complete) return "incomplete";
  if (physical?.corruptPages) return "corrupt";
  return isWholeCluster(dump) ? "good" : "selection";
}

/** Backups in a table, what needs another one below it. */
export function formatBackups(backups: readonly Backup[], now: Date): string {
  return formatTable(
    [
      { title: "ID" },
      { title: "CLUSTER", cut: true },
      { title: "KIND" },
      { title: "TAKEN" },
      { title: "STORED", right: true },
      { title: "STATE" },
      { title: "IN", cut: true },
    ],
    backupTree(backups).map(({ backup, depth }) => [
      branch(depth) + backup.id,
      backup.clusterName,
      backup.kind === BackupKind.INCREMENTAL ? "incr" : enumLabel(BackupKindSchema, backup.kind),
      formatRelative(timeOf(backup.startTime), now),
      isWalIncrement(backup) ? `${formatSize(backup.physical?.walBytes ?? 0n)} WAL` : formatSize(backup.storedBytes),
      health(backup),
      backup.copies.map(({ repositoryName }) => repositoryName).join(","),
    ]),
  );
}

/** It has no bytes worth the name of its own: what counts is in the archive. */
function isWalIncrement({ physical }: Backup): boolean {
  return physical?.method === IncrementalMethod.WAL;
}

/** How deep one stands, by a column each; far down the number says it. */
function branch(depth: number): string {
  if (depth === 0) return "";
  return depth < 6 ? `${" ".repeat(depth - 1)}└` : `     └${depth} `;
}

/** All that is known of a backup. */
export function formatBackup(backup: Backup, now: Date): string {
  const started = timeOf(backup.startTime);
  const ended = timeOf(backup.endTime);
  const details = formatDetails([
    ["id", backup.id],
    ["cluster", backup.clusterName],
    ["kind", enumLabel(BackupKindSchema, backup.kind)],
    ["state", health(backup)],
    ["parent", backup.parent],
    ["taken", `${started?.toISOString() ?? "-"} (${formatRelative(started, now)})`],
    ["took", started && ended && formatElapsed(ended.getTime() - started.getTime())],
    [
      "size",
      isWalIncrement(backup)
        ? `${formatSize(backup.databaseBytes)} of WAL → ${formatSize(backup.physical?.walBytes ?? 0n)}`
        : `${formatSize(backup.databaseBytes)} → ${formatSize(backup.storedBytes)}`,
    ],
    ["format", [backup.format, backup.codec === "none" ? "not compressed" : backup.codec].filter(Boolean).join(", ")],
    ["left out", backup.dump && [...leftOutOfCluster(backup.dump), ...leftOutOfDatabases(backup.dump)].join(", ")],
    ["taken of", backup.fromStandby ? "a standby" : "a primary"],
    ...describePhysical(backup.physical),
    ["encrypted", backup.recipients.length === 0 ? "no" : `by age, to ${backup.recipients.join(", ")}`],
    ["operation", backup.operation],
    ...backup.copies.map(
      ({ repositoryName, state, verifyTime, problem, chainProblem, folder }) =>
        [
          `in ${repositoryName}`,
          `${enumLabel(CopyStateSchema, state)}, ${verifyTime ? `verified ${formatRelative(timeOf(verifyTime), now)}` : "never verified"}` +
            `${problem ? `: ${problem}` : ""}${chainProblem ? `; nothing can be restored from it: ${chainProblem}` : ""}, folder ${folder}`,
        ] as const,
    ),
  ]);
  const rows = [
    ...backup.databases.map(({ name, sizeBytes, storedBytes, snapshotLsn }) => [
      name,
      formatSize(sizeBytes),
      formatSize(storedBytes),
      snapshotLsn,
    ]),
    ...backup.missing.map(({ name, reason }) => [name, "-", "-", `missing: ${enumLabel(MissingReasonSchema, reason)}`]),
  ];
  const columns = [
    { title: "DATABASE", cut: true },
    { title: "SIZE", right: true },
    { title: "STORED", right: true },
    { title: "SNAPSHOT" },
  ];
  return rows.length === 0 ? details : `${details}\n${formatTable(columns, rows)}`;
}

function describePhysical(physical: PhysicalBackup | undefined): [name: string, value: string][] {
  if (!physical) return [];
  const {
    systemIdentifier,
    timeline,
    startLsn,
    stopLsn,
    walEmbedded,
    corruptPages,
    fullReason,
    restorePoint,
    missingConfiguration,
  } = physical;
  return [
    ["system", `identifier ${systemIdentifier}, timeline ${timeline}`],
    ["WAL", `${startLsn} to ${stopLsn}, ${walEmbedded ? "in the backup" : "in the archive"}`],
    ["ends at", restorePoint && `the restore point ${restorePoint}, by replay`],
    ["checksums", corruptPages ? "pages failed them, and it was accepted: restore and check it" : ""],
    ["full since", fullReason],
    ["lacks", missingConfiguration.join("; ")],
  ];
}
