import type { BackupManifest, DumpContent } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { PhysicalContent } from "@coppice/proto/gen/coppice/repository/v1/physical_content";
import type { StoredObject, StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { walPrefix } from "./layout.ts";

/** An object of a backup, and what cannot be restored without it: a database's name, a tablespace, all. */
export interface ManifestObject {
  readonly object: StoredObject;
  readonly affects: string;
}

/** A stream of a backup, and what cannot be restored without it. */
export interface ManifestStream {
  readonly stream: StoredStream;
  readonly affects: string;
}

type Named = [affects: string, stream: StoredStream | undefined];

function dumpStreams({ globals, databases, clusterDump }: DumpContent): Named[] {
  return [
    ["globals", globals],
    ...databases.map(({ name, stream }): Named => [name, stream]),
    ["cluster dump", clusterDump],
  ];
}

/** PostgreSQL's manifest first: who looks into the archives needs to know what has to be in them. */
function physicalStreams(content: PhysicalContent): Named[] {
  return [
    ["backup_manifest", content.backupManifest],
    ...content.tablespaces.map(({ oid, stream }): Named => [`tablespace ${oid}`, stream]),
    ["all", content.base],
    ["WAL", content.wal],
    ...content.configFiles.map(({ path, stream }): Named => [path, stream]),
  ];
}

function namedStreams({ content }: BackupManifest): Named[] {
  if (content.case === "dump") return dumpStreams(content.value);
  return content.case === "physical" ? physicalStreams(content.value) : [];
}

/** Every stream that a manifest names, in the order in which they are checked. */
export function manifestStreams(manifest: BackupManifest): ManifestStream[] {
  return namedStreams(manifest).flatMap(([affects, stream]) => (stream ? [{ affects, stream }] : []));
}

/** Every object that a manifest names, in the order in which it names them; the manifest itself is not among them. */
export function manifestObjects(manifest: BackupManifest): ManifestObject[] {
  const streams = manifestStreams(manifest);
  return [
    ...streams.flatMap(({ affects, stream }) => stream.objects.map((object) => ({ object, affects }))),
    ...(manifest.recipe ? [{ object: manifest.recipe, affects: "recipe" }] : []),
  ];
}

/** A file of the WAL archive that a backup needs; its object's key is relative to `prefix`. */
export interface ArchivedWalStream extends ManifestStream {
  readonly prefix: string;
  /** As the archive names it: a segment, a part of one, a history. */
  readonly name: string;
}

/** The files of the archive that hold a backup's WAL, in order; none of one that has it in itself. */
export function archivedWalStreams({ clusterId, systemIdentifier, content }: BackupManifest): ArchivedWalStream[] {
  if (content.case !== "physical" || content.value.archivedWal.length === 0) return [];
  const prefix = walPrefix({ clusterId, systemIdentifier });
  return content.value.archivedWal.map((stream) => ({
    stream,
    affects: "WAL",
    prefix,
    name: stream.objects[0]?.key.split("/").at(-1) ?? "",
  }));
}
