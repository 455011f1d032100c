import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail } from "@coppice/proto/kit/failure";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentStart } from "@coppice/proto/kit/wal/segment";
import { matchIdentities } from "../../pipeline/age-identity.ts";
import { majorOf } from "../../postgres/majors.ts";
import { readManifest } from "../../repository/get.ts";
import { backupPrefix } from "../../repository/layout.ts";
import { manifestStreams } from "../../repository/manifest-objects.ts";
import type { Storage } from "../../storage/storage.ts";

/** A backup to restore, and how it is read. */
export interface BackupToRestore {
  readonly storage: Storage;
  readonly address: BackupAddress;
  /** An age identity file, where the backup is encrypted. */
  readonly identities: string | undefined;
}

/** One backup of a chain, its manifest read. */
export interface ChainLink {
  readonly storage: Storage;
  readonly prefix: string;
  readonly manifest: BackupManifest;
  readonly content: PhysicalContent;
  /** The identities that fit. */
  readonly identities: string | undefined;
}

/** Backups from the full one on, which belong together. */
export interface Chain {
  readonly links: readonly ChainLink[];
  readonly newest: ChainLink;
  readonly major: number;
  readonly storedBytes: bigint;
  /** Space that unpacking needs at most: every backup, and for incrementals the result beside them. */
  readonly neededBytes: bigint;
}

const sizeOf = ({ objects }: StoredStream) => objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n);

/** Of the whole segments that come with a backup. */
function embeddedBytes({ wal, startLsn, stopLsn, walSegmentBytes }: PhysicalContent): bigint {
  if (!wal) return 0n;
  const first = segmentStart(parseLsn(startLsn), walSegmentBytes);
  return segmentStart(parseLsn(stopLsn) - 1n, walSegmentBytes) + walSegmentBytes - first;
}

async function openLink(backup: BackupToRestore, signal: AbortSignal): Promise<ChainLink> {
  const { storage, address, identities } = backup;
  const { manifest } = await readManifest(storage, address, signal);
  if (manifest.content.case !== "physical")
    return fail("SELECTION_REFUSED", `the backup ${address.backupId} is a dump, not a physical backup`, {
      hint: "restore its databases into a running server",
    });
  const content = manifest.content.value;
  if (content.method === IncrementalMethod.WAL)
    return fail("NOT_SUPPORTED", `the backup ${address.backupId} is a WAL increment, which is replayed, not unpacked`);
  return {
    storage,
    prefix: backupPrefix(address),
    manifest,
    content,
    identities: matchIdentities(manifest.recipients, identities),
  };
}

/**
 * Reads the manifests of a chain and checks that its backups belong together. Fails as readManifest and matchIdentities
 * do, with SELECTION_REFUSED for a dump, and with BACKUP_CHAIN_BROKEN.
 */
export async function openRestoreChain(backups: readonly BackupToRestore[], signal: AbortSignal): Promise<Chain> {
  const links: ChainLink[] = [];
  for (const backup of backups) links.push(await openLink(backup, signal));
  const newest = links.at(-1) ?? fail("INVALID_FIELD", "the command names no backup");
  for (const [index, { manifest, content }] of links.entries()) {
    const parent = links[index - 1]?.manifest;
    const name = `the backup ${manifest.backupId}`;
    if (content.parentBackupId !== (parent?.backupId ?? ""))
      fail(
        "BACKUP_CHAIN_BROKEN",
        `${name} builds on ${content.parentBackupId || "nothing"}, not on ${parent?.backupId ?? "nothing"}`,
      );
    if (parent && parent.systemIdentifier !== manifest.systemIdentifier)
      fail("BACKUP_CHAIN_BROKEN", `${name} is of another cluster than ${parent.backupId}`);
    if (parent && majorOf(parent.serverVersionNum) !== majorOf(manifest.serverVersionNum))
      fail("BACKUP_CHAIN_BROKEN", `${name} is of another major version than ${parent.backupId}`);
  }
  const sizes = links.map(({ content }) => content.dataBytes);
  const unpacked = links.reduce((sum, { content }) => sum + content.dataBytes + embeddedBytes(content), 0n);
  const largest = sizes.reduce((most, size) => (size > most ? size : most), 0n);
  return {
    links,
    newest,
    major: majorOf(newest.manifest.serverVersionNum),
    storedBytes: links.reduce(
      (sum, { manifest }) => manifestStreams(manifest).reduce((own, { stream }) => own + sizeOf(stream), sum),
      0n,
    ),
    neededBytes: links.length === 1 ? unpacked : unpacked + largest,
  };
}
