import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { MissingReason, type DumpContent } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { formatSize } from "@coppice/proto/kit/size";
import type { FoundBackup, FoundCluster, FoundRepository } from "./catalog.ts";
import { showName } from "./show-name.ts";

function dumpOf({ manifest: { content } }: FoundBackup): DumpContent | undefined {
  return content.case === "dump" ? content.value : undefined;
}

function kindOf({ manifest }: FoundBackup): string {
  return (BackupKind[manifest.kind] ?? "unknown").toLowerCase();
}

function stateOf(backup: FoundBackup): string {
  if (!backup.manifest.complete) return "incomplete";
  return backup.isGood ? "complete" : "selection";
}

/** A time for people: UTC, to the second. */
export function formatTime(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace("T", " ")}Z`;
}

/** What a repository holds, as JSON: stable names, sizes in bytes, times as ISO 8601. */
export function repositoryJson(repository: FoundRepository): object {
  const { name, clusters, unreadable, unfinished, foreignObjects, within } = repository;
  return {
    repository: name,
    clusters: clusters.map(({ id, name: clusterName, backups, lastGood }) => ({
      id,
      name: clusterName,
      lastGood: lastGood?.address.backupId ?? null,
      backups: backups.map(backupJson),
    })),
    unreadable,
    unfinished,
    foreignObjects,
    within,
  };
}

function backupJson(backup: FoundBackup): object {
  const { address, manifest, startTime, storedBytes } = backup;
  const dump = dumpOf(backup);
  return {
    id: address.backupId,
    folder: address.folder,
    kind: kindOf(backup),
    startTime: startTime.toISOString(),
    complete: manifest.complete,
    wholeCluster: backup.isGood,
    serverVersion: manifest.serverVersionNum,
    storedBytes: Number(storedBytes),
    recipients: manifest.recipients,
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

function clusterLines({ id, name, backups, lastGood }: FoundCluster): string[] {
  const head = `${showName(name)}  ${id}  ${lastGood ? `last good ${lastGood.address.backupId}` : "no good backup"}`;
  const rows = backups.map((backup) => [
    backup.address.backupId,
    formatTime(backup.startTime),
    kindOf(backup),
    stateOf(backup),
    formatSize(backup.storedBytes),
  ]);
  const [titles = "", ...lines] = columns([["BACKUP", "TAKEN", "KIND", "STATE", "STORED"], ...rows]);
  const details = backups.map((backup) => {
    const dump = dumpOf(backup);
    const held = (dump?.databases ?? []).map((each) => `${showName(each.name)} ${formatSize(each.sizeBytes)}`);
    const lacking = (dump?.missing ?? []).map((each) => showName(each.name));
    const { recipients } = backup.manifest;
    return [
      held.length === 0 ? "no databases" : held.join(", "),
      ...(lacking.length === 0 ? [] : [`without ${lacking.join(", ")}`]),
      ...(recipients.length === 0 ? [] : [`encrypted to ${recipients.map(shortRecipient).join(", ")}`]),
    ];
  });
  return [
    head,
    ...(lines.length === 0 ? [] : [`  ${titles}`]),
    ...lines.flatMap((line, index) => [`  ${line}`, ...(details[index] ?? []).map((detail) => `      ${detail}`)]),
  ];
}

/** What a repository holds, for people: clusters by name, their backups newest first. */
export function formatRepository(repository: FoundRepository): string {
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
  const blocks = [...clusters.map(clusterLines), ...(notes.length === 0 ? [] : [notes])];
  if (clusters.length === 0) {
    const folders = within.map(showName).join(", ");
    const others = `repositories lie in its folders ${folders}: name one of them by --repo`;
    blocks.unshift([`${name} holds no cluster of Coppice`, ...(within.length === 0 ? [] : [others])]);
  }
  return `${blocks.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}
