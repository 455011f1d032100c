import type { BackupManifest, DumpContent } from "@coppice/proto/gen/coppice/repository/v1/manifest";

/** What a dump's manifest says of its content; undefined for any other kind of backup. */
export function dumpContent(manifest: BackupManifest | undefined): DumpContent | undefined {
  return manifest?.content.case === "dump" ? manifest.content.value : undefined;
}
