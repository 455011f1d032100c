import { fail } from "@coppice/proto/kit/failure";
import { manifestName, parseObjectOwner } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { findUnneeded, type FoundUnneeded, type UnneededWal } from "./find-unneeded.ts";

const atOnce = 1000;

/**
 * Deletes exactly what was found: WAL first, then the claims on its names, then anchors; and looks whether it is gone.
 * Whatever was deleted before is no error, so it can be repeated. Fails as the storage does.
 */
export async function deleteUnneeded(
  storage: Storage,
  wal: UnneededWal,
  found: FoundUnneeded,
  { signal, onDeleted }: { readonly signal: AbortSignal; readonly onDeleted: (objects: number) => void },
): Promise<void> {
  const files = [...found.runs.flatMap(({ keys }) => keys), ...found.parts.keys];
  const keys = [...files, ...found.claims, ...found.anchors];
  for (let index = 0; index < keys.length; index += atOnce) {
    await storage.deleteMany(keys.slice(index, index + atOnce), signal);
    onDeleted(Math.min(index + atOnce, keys.length));
  }
  const named = new Set(keys);
  const left = await findUnneeded(storage, wal, signal);
  const still = [...left.runs.flatMap((run) => run.keys), ...left.parts.keys, ...left.claims, ...left.anchors];
  const [first, ...others] = still.filter((key) => named.has(key));
  if (first === undefined) return;
  const more = others.length === 0 ? "" : `, and so are ${others.length} more`;
  fail("REPOSITORY_IO_ERROR", `${storage.name} said that ${first} is deleted, and it is still there${more}`);
}

/**
 * Refuses to go on where a repository holds physical backups of the cluster that nobody has told of: they may need what
 * is to go. Fails with BACKUPS_UNKNOWN, and as the storage does.
 */
export async function requireKnownBackups(
  storage: Storage,
  { clusterId, knownFolders }: { readonly clusterId: string; readonly knownFolders: readonly string[] },
  signal: AbortSignal,
): Promise<void> {
  const known = new Set(knownFolders);
  for await (const { key } of storage.list(`${clusterId}/backups/`, signal)) {
    const owner = parseObjectOwner(key);
    if (owner.is !== "backup" || owner.name !== manifestName) continue;
    const { folder } = owner;
    if (known.has(folder) || /^[^_]+_dump_/.test(folder)) continue;
    fail("BACKUPS_UNKNOWN", `${storage.name} holds ${folder}, which the catalog does not know: it may need this WAL`, {
      metadata: { folder },
    });
  }
}
