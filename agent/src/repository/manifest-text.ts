import { fromJson, toJson } from "@bufbuild/protobuf";
import { IncrementalMethod } from "@coppice/proto/gen/coppice/common/v1/base_backup_options";
import { type BackupManifest, BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredObject, StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail } from "@coppice/proto/kit/failure";
import { archivedWalProblem } from "@coppice/proto/kit/wal/archived-wal";
import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import { isSegmentSize } from "@coppice/proto/kit/wal/segment";
import { parseCodec } from "../pipeline/stages.ts";
import { checkFeatures, parseJsonObject } from "./document.ts";
import { isRelativeKey } from "./layout.ts";
import { archivedWalStreams, manifestObjects } from "./manifest-objects.ts";

/** The text of manifest.json: proto JSON, every field of it, in the order of the proto. */
export function formatManifest(manifest: BackupManifest): string {
  return `${JSON.stringify(toJson(BackupManifestSchema, manifest, { alwaysEmitImplicit: true }), null, 2)}\n`;
}

/**
 * Reads manifest.json. Unknown fields are ignored. Fails with FEATURE_UNKNOWN naming what this version does not know, and
 * with MANIFEST_UNREADABLE; `key` is for the message.
 */
export function parseManifest(bytes: Uint8Array, key: string): BackupManifest {
  const json = parseJsonObject(bytes, key);
  checkFeatures(json, key);
  let manifest: BackupManifest;
  try {
    manifest = fromJson(BackupManifestSchema, json, { ignoreUnknownFields: true });
  } catch (error) {
    fail("MANIFEST_UNREADABLE", `${key} is not a manifest`, { cause: error });
  }
  checkContent(manifest, key);
  return manifest;
}

/** Every stream that has to be there, undefined where it is not. */
function requiredStreams(content: BackupManifest["content"]): (StoredStream | undefined)[] {
  if (content.case === "dump") {
    const { globals, databases, clusterDump } = content.value;
    return [globals, ...databases.map(({ stream }) => stream), ...(clusterDump ? [clusterDump] : [])];
  }
  if (content.case !== "physical") return [];
  const { base, tablespaces, backupManifest, walEmbedded, wal, configFiles, method } = content.value;
  return [
    // All that a WAL increment has is in the archive.
    ...(method === IncrementalMethod.WAL ? [] : [base, backupManifest]),
    ...tablespaces.map(({ stream }) => stream),
    ...(walEmbedded || wal ? [wal] : []),
    ...configFiles.flatMap(({ stream }) => stream ?? []),
  ];
}

/** A position or digest that cannot be read would fail a restore when it is needed most. */
function checkPhysical(manifest: BackupManifest, key: string): void {
  const { content } = manifest;
  if (content.case !== "physical") return;
  const { startLsn, stopLsn, timeline, walSegmentBytes, backupManifestSha256, walEmbedded, method } = content.value;
  const isIncrement = method === IncrementalMethod.WAL;
  const lsn = /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/;
  const isSound =
    lsn.test(startLsn) &&
    lsn.test(stopLsn) &&
    parseLsn(startLsn) <= parseLsn(stopLsn) &&
    timeline > 0 &&
    isSegmentSize(walSegmentBytes) &&
    (isIncrement ? isSoundIncrement(content.value) : /^[0-9a-f]{64}$/.test(backupManifestSha256));
  if (!isSound) fail("MANIFEST_UNREADABLE", `${key} does not say which WAL the backup needs`);
  if (walEmbedded) return;
  const files = archivedWalStreams(manifest);
  for (const { stream } of files)
    if (stream.objects.length !== 1 || !stream.objects.every(isSoundObject) || !parseCodec(stream.codec))
      fail("MANIFEST_UNREADABLE", `${key} describes archived WAL wrongly`);
  const names = files.map(({ name }) => name);
  const problem = archivedWalProblem(names, {
    timeline,
    startLsn: parseLsn(startLsn),
    stopLsn: parseLsn(stopLsn),
    segmentBytes: walSegmentBytes,
  });
  if (problem !== undefined)
    fail("MANIFEST_UNREADABLE", `${key} does not name all WAL that the backup needs: ${problem}`);
}

/** It goes on where its parent ends, and what it ends with has a name. */
function isSoundIncrement({ parentBackupId, parentStopLsn, startLsn, restorePoint, walEmbedded }: PhysicalContent) {
  return parentBackupId !== "" && parentStopLsn === startLsn && restorePoint !== "" && !walEmbedded;
}

function isSoundObject({ key, sizeBytes, sha256 }: StoredObject): boolean {
  return isRelativeKey(key) && sizeBytes >= 0n && /^[0-9a-f]{64}$/.test(sha256);
}

function checkContent(manifest: BackupManifest, key: string): void {
  const { content } = manifest;
  if (content.case === undefined)
    fail("FEATURE_UNKNOWN", `${key} holds a kind of backup that this version does not know`);
  for (const stream of requiredStreams(content)) {
    if (!stream || stream.objects.length === 0) fail("MANIFEST_UNREADABLE", `${key} names a stream without objects`);
    if (stream.encrypted && manifest.recipients.length === 0)
      fail("MANIFEST_UNREADABLE", `${key} does not say to whom it is encrypted`);
    if (!parseCodec(stream.codec)) fail("FEATURE_UNKNOWN", `${key} needs codec ${JSON.stringify(stream.codec)}`);
  }
  checkPhysical(manifest, key);
  const seen = new Set<string>();
  for (const { object } of manifestObjects(manifest)) {
    if (!isSoundObject(object) || seen.has(object.key)) {
      fail("MANIFEST_UNREADABLE", `${key} describes object ${JSON.stringify(object.key)} wrongly`);
    }
    seen.add(object.key);
  }
}
