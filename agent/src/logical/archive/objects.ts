import type { RestoreSelection } from "@coppice/proto/gen/coppice/common/v1/restore_selection";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { ArchiveEntry } from "./contents.ts";

/** Entries that are no objects of the database, or that a dump of its definitions alone does not list. */
const noObject =
  /^(?:ENCODING|STDSTRINGS|SEARCHPATH|DATABASE|DATABASE PROPERTIES|TABLE DATA|SEQUENCE SET|BLOBS?|BLOB METADATA|BLOB COMMENTS|MATERIALIZED VIEW DATA|STATISTICS DATA)$/;
const ofDatabase = /^(?:DATABASE|LARGE OBJECTS?) /;

/** The entries of an archive that a restore as the selection says makes objects of. */
export function restoredObjects(
  entries: readonly ArchiveEntry[],
  { contents, noPrivileges }: Pick<RestoreSelection, "contents" | "noPrivileges">,
): ArchiveEntry[] {
  if (contents === DumpContents.DATA_ONLY) return [];
  return entries.filter(({ kind, name, schema }) => {
    if (noObject.test(kind) || (schema === "" && ofDatabase.test(name))) return false;
    return !noPrivileges || !["ACL", "DEFAULT ACL"].includes(kind);
  });
}

function keyOf({ kind, schema, name, owner }: ArchiveEntry, hasOwner: boolean): string {
  return JSON.stringify([kind, schema, name, ...(hasOwner ? [owner] : [])]);
}

/** The entries of `wanted` that `found` lacks, each as often as it lacks them; owners count unless they were left out. */
export function missingObjects(
  wanted: readonly ArchiveEntry[],
  found: readonly ArchiveEntry[],
  hasOwner: boolean,
): ArchiveEntry[] {
  const left = new Map<string, number>();
  for (const entry of found) left.set(keyOf(entry, hasOwner), (left.get(keyOf(entry, hasOwner)) ?? 0) + 1);
  return wanted.filter((entry) => {
    const key = keyOf(entry, hasOwner);
    const count = left.get(key) ?? 0;
    left.set(key, count - 1);
    return count <= 0;
  });
}
