import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredObject, StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";

/** An object of a backup, and what cannot be restored without it: a database's name, globals, recipe. */
export interface ManifestObject {
  readonly object: StoredObject;
  readonly affects: string;
}

/** Every object that a manifest names, in the order in which it names them; the manifest itself is not among them. */
export function manifestObjects({ content, recipe }: BackupManifest): ManifestObject[] {
  const dump = content.case === "dump" ? content.value : undefined;
  const streams: [string, StoredStream | undefined][] = [
    ["globals", dump?.globals],
    ...(dump?.databases ?? []).map(({ name, stream }): [string, StoredStream | undefined] => [name, stream]),
  ];
  return [
    ...streams.flatMap(([affects, stream]) => (stream?.objects ?? []).map((object) => ({ object, affects }))),
    ...(recipe ? [{ object: recipe, affects: "recipe" }] : []),
  ];
}
