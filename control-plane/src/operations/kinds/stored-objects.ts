import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredObject } from "@coppice/proto/gen/coppice/repository/v1/stored_object";

/** Every object that a manifest names, the recipe last; the manifest itself is not among them. */
export function storedObjects({ content, recipe }: BackupManifest): StoredObject[] {
  return [...contentObjects(content), ...(recipe ? [recipe] : [])];
}

function contentObjects(content: BackupManifest["content"]): StoredObject[] {
  switch (content.case) {
    case "dump": {
      const { globals, clusterDump, databases } = content.value;
      const streams = [globals, clusterDump, ...databases.map(({ stream }) => stream)];
      return streams.flatMap((stream) => stream?.objects ?? []);
    }
    case "physical": {
      const { base, tablespaces, backupManifest, wal, configFiles } = content.value;
      const streams = [base, ...tablespaces.map(({ stream }) => stream), backupManifest, wal];
      return [
        ...streams.flatMap((stream) => stream?.objects ?? []),
        ...configFiles.flatMap(({ stream }) => stream?.objects ?? []),
      ];
    }
    case undefined:
      return [];
  }
}
