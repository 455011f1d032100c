import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { MissingReason, type DumpContent } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import { formatSize } from "@coppice/proto/kit/size";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { ArchivedWal } from "./archived-wal.ts";
import { type FoundBackup, type FoundCluster, type FoundRepository, isChainWhole } from "./catalog.ts";
import { showName } from "./show-name.ts";

/** What of WAL lies there, by the clusters' ids. */
export type WalOfClusters = ReadonlyMap<string, readonly ArchivedWal[]>;

function dumpOf({ manifest: { content } }: FoundBackup): DumpContent | undefined {
  return content.case === "dump" ? content.value : undefined;
}

function kindOf({ manifest }: FoundBackup): string {
  return (BackupKind[manifest.kind] ?? "unknown").toLowerCase();
}

function physicalOf({ manifest: { content } }: FoundBackup): PhysicalContent | undefined {
  return content.case === "physical" ? content.value : undefined;
}

function stateOf(backup: FoundBackup, all: readonly FoundBackup[]): string {
  if (!backup.manifest.complete) return "incomplete";
  if (physicalOf(backup)) return isChainWhole(backup, all) ? "complete" : "parent missing";
  return backup.isGood ? "complete" : "selection";
}

/** A time for people: UTC, to the second. */
export function formatTime(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace("T", " ")}Z`;
}

/** What a repository holds, as JSON: stable names, sizes in bytes, times as ISO 8601. */
export function repositoryJson(repository: FoundRepository, wal: WalOfClusters): object {
  const { name, clusters, unreadable, unfinished, foreignObjects, within } = repository;
  return {
    repository: name,
    clusters: clusters.map(({ id, name: clusterName, backups, lastGood, lastGoodPhysical }) => ({
      id,
      name: clusterName,
      lastGood: lastGood?.address.backupId ?? null,
      lastGoodPhysical: lastGoodPhysical?.address.backupId ?? null,
      wal: (wal.get(id) ?? []).map(walJson),
      backups: backups.map((backup) => backupJson(backup, backups)),
    })),
    unreadable,
    unfinished,
    foreignObjects,
    within,
  };
}

function walJson({ systemIdentifier, timeline, startLsn, endLsn, until }: ArchivedWal): object {
  return {
    systemIdentifier,
    timeline,
    startLsn: formatLsn(startLsn),
    endLsn: formatLsn(endLsn),
    until: until?.toISOString() ?? null,
  };
}

function physicalJson(content: PhysicalContent): object {
  const { parentBackupId, method, timeline, startLsn, stopLsn, walEmbedded, dataBytes, corruptPages } = content;
  return {
    parent: parentBackupId || null,
    byWal: parentBackupId !== "" && method === IncrementalMethod.WAL,
    timeline,
    startLsn,
    stopLsn,
    walEmbedded,
    dataBytes: Number(dataBytes),
    corruptPages,
  };
}

function backupJson(backup: FoundBackup, all: readonly FoundBackup[]): object {
  const { address, manifest, startTime, storedBytes } = backup;
  const dump = dumpOf(backup);
  const physical = physicalOf(backup);
  return {
    id: address.backupId,
    folder: address.folder,
    kind: kindOf(backup),
    startTime: startTime.toISOString(),
    complete: manifest.complete,
    wholeCluster: physical ? isChainWhole(backup, all) : backup.isGood,
    serverVersion: manifest.serverVersionNum,
    storedBytes: Number(storedBytes),
    recipients: manifest.recipients,
    ...(physical ? { physical: physicalJson(physical) } : {}),
    databases: (dump?.databases ?? []).map(({ name, sizeBytes, format }) => ({
      name,
      format,
      sizeBytes: Number(sizeBytes),
    })),
    missing: (dump?.missing ?? []).map(({ name, reason, message }) => ({
      name,
      reason: (MissingReason[reason] ?? "unknown").toLowerCase(),
      message,
    })),
  };
}

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows.reduce<number[]>(
    (most, row) => row.map((cell, index) => Math.max(most[index] ?? 0, cell.length)),
    [],
  );
  return rows.map((row) =>
    row
      .map((cell, index) => cell.padEnd(widths[index] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

/** A recipient is known by its beginning; whole ones are in the JSON. */
function shortRecipient(recipient: string): string {
  return `${recipient.slice(0, 14)}…`;
}

function describePhysical(content: PhysicalContent): string[] {
  const { parentBackupId, method, timeline, startLsn, stopLsn, walEmbedded, dataBytes, corruptPages } = content;
  const isByWal = parentBackupId !== "" && method === IncrementalMethod.WAL;
  const wal = `WAL from ${startLsn} to ${stopLsn} on timeline ${timeline}, in the ${walEmbedded ? "backup" : "archive"}`;
  return [
    `the whole cluster, ${formatSize(dataBytes)}${isByWal ? " of WAL" : ""}; ${wal}`,
    ...(parentBackupId === "" ? [] : [`builds on ${parentBackupId}`]),
    ...(corruptPages ? ["! pages failed their checksums, which was accepted"] : []),
  ];
}

function describeWal({ timeline, startLsn, endLsn, until }: ArchivedWal): string {
  const time = until ? `, until ${formatTime(until)} at least` : "";
  return `  archived WAL from ${formatLsn(startLsn)} to ${formatLsn(endLsn)} on timeline ${timeline}${time}`;
}

/** The last good one of each kind. */
function goodOnes({ lastGood, lastGoodPhysical }: FoundCluster): string {
  const physical = lastGoodPhysical ? [`last good physical ${lastGoodPhysical.address.backupId}`] : [];
  const dump = lastGood ? [`last good ${lastGoodPhysical ? "dump " : ""}${lastGood.address.backupId}`] : [];
  return [...physical, ...dump].join(", ") || "no good backup";
}

function clusterLines(cluster: FoundCluster, wal: readonly ArchivedWal[]): string[] {
  const { id, name, backups } = cluster;
  const head = `${showName(name)}  ${id}  ${goodOnes(cluster)}`;
  const rows = backups.map((backup) => [
    backup.address.backupId,
    formatTime(backup.startTime),
    kindOf(backup),
    stateOf(backup, backups),
    formatSize(backup.storedBytes),
  ]);
  const [titles = "", ...lines] = columns([["BACKUP", "TAKEN", "KIND", "STATE", "STORED"], ...rows]);
  const details = backups.map((backup) => {
    const dump = dumpOf(backup);
    const held = (dump?.databases ?? []).map((each) => `${showName(each.name)} ${formatSize(each.sizeBytes)}`);
    const lacking = (dump?.missing ?? []).map((each) => showName(each.name));
    const { recipients } = backup.manifest;
    const physical = physicalOf(backup);
    return [
      ...(physical ? describePhysical(physical) : [held.length === 0 ? "no databases" : held.join(", ")]),
      ...(lacking.length === 0 ? [] : [`without ${lacking.join(", ")}`]),
      ...(recipients.length === 0 ? [] : [`encrypted to ${recipients.map(shortRecipient).join(", ")}`]),
    ];
  });
  return [
    head,
    ...(lines.length === 0 ? [] : [`  ${titles}`]),
    ...lines.flatMap((line, index) => [`  ${line}`, ...(details[index] ?? []).map((detail) => `      ${detail}`)]),
    ...wal.map(describeWal),
  ];
}

/** What a repository holds, for people: clusters by name, their backups newest first. */
export function formatRepository(repository: FoundRepository, wal: WalOfClusters): string {
  const { name, clusters, unreadable, unfinished, foreignObjects, within } = repository;
  const notes = [
    ...unreadable.map(({ key, message }) => `! ${showName(key)} cannot be read: ${message}`),
    ...(unfinished === 0
      ? []
      : [`${unfinished === 1 ? "1 backup that was" : `${unfinished} backups that were`} never finished`]),
    ...(foreignObjects === 0
      ? []
      : [`${foreignObjects === 1 ? "1 object" : `${foreignObjects} objects`} that no Coppice has made`]),
  ];
  const blocks = [
    ...clusters.map((cluster) => clusterLines(cluster, wal.get(cluster.id) ?? [])),
    ...(notes.length === 0 ? [] : [notes]),
  ];
  if (clusters.length === 0) {
    const folders = within.map(showName).join(", ");
    const others = `repositories lie in its folders ${folders}: name one of them by --repo`;
    blocks.unshift([`${name} holds no cluster of Coppice`, ...(within.length === 0 ? [] : [others])]);
  }
  return `${blocks.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}
