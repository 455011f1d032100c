import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredObject, StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";

/** An object of a backup, and what cannot be restored without it: a database's name, globals, cluster dump, recipe. */
export interface ManifestObject {
  readonly object: StoredObject;
  readonly affects: string;
}

/** A stream of a backup, and what cannot be restored without it. */
export interface ManifestStream {
  readonly stream: StoredStream;
  readonly affects: string;
}

/** Every stream that a manifest names, in its order. */
export function manifestStreams({ content }: BackupManifest): ManifestStream[] {
  const dump = content.case === "dump" ? content.value : undefined;
  const streams: [string, StoredStream | undefined][] = [
    ["globals", dump?.globals],
    ...(dump?.databases ?? []).map(({ name, stream }): [string, StoredStream | undefined] => [name, stream]),
    ["cluster dump", dump?.clusterDump],
  ];
  return streams.flatMap(([affects, stream]) => (stream ? [{ affects, stream }] : []));
}

/** Every object that a manifest names, in the order in which it names them; the manifest itself is not among them. */
export function manifestObjects(manifest: BackupManifest): ManifestObject[] {
  const streams = manifestStreams(manifest);
  return [
    ...streams.flatMap(({ affects, stream }) => stream.objects.map((object) => ({ object, affects }))),
    ...(manifest.recipe ? [{ object: manifest.recipe, affects: "recipe" }] : []),
  ];
}
