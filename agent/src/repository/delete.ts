import { create } from "@bufbuild/protobuf";
import { type DeleteBackupResult, DeleteBackupResultSchema } from "@coppice/proto/gen/coppice/agent/v1/delete_backup";
import type { BackupAddress } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { isFailure } from "@coppice/proto/kit/failure";
import type { Storage } from "../storage/storage.ts";
import { requireClusterFile } from "./cluster-file.ts";
import { fetchManifest, parseManifestOf } from "./get.ts";
import { backupPrefix, manifestKey, objectKey } from "./layout.ts";
import { manifestObjects } from "./manifest-objects.ts";

/**
 * Deletes a backup: its manifest first, then the named keys (relative to its folder) and those its manifest names, then
 * what unended puts left in its folder; never anything else. Repeating it is no error. A manifest that needs an unknown
 * feature is FEATURE_UNKNOWN and stays; one that is missing or broken leaves the named keys to go by. Fails with
 * REPOSITORY_UNREACHABLE where neither the manifest nor cluster.json is: that is another place. `onBegin` is called
 * before anything is deleted.
 */
export async function deleteBackup(
  storage: Storage,
  address: BackupAddress,
  keys: readonly string[],
  signal: AbortSignal,
  onBegin: () => void = () => {},
): Promise<DeleteBackupResult> {
  const prefix = backupPrefix(address);
  const named = [...keys, ...(await keysOfManifest(storage, address, signal))];
  const objects = [...new Set(named.map((key) => objectKey(prefix, key)))];
  const manifest = manifestKey(prefix);
  onBegin();
  const deleted =
    (await storage.deleteMany([manifest], signal)) +
    (await storage.deleteMany(
      objects.filter((key) => key !== manifest),
      signal,
    ));
  const unfinished = await Array.fromAsync(storage.listUnfinished(prefix, signal));
  await storage.removeUnfinished(unfinished, signal);
  return create(DeleteBackupResultSchema, { objects: deleted, stays: (await storage.whatStays?.(signal)) ?? "" });
}

async function keysOfManifest(storage: Storage, address: BackupAddress, signal: AbortSignal): Promise<string[]> {
  try {
    const { bytes } = await fetchManifest(storage, address, signal);
    return manifestObjects(parseManifestOf(address, bytes)).map(({ object }) => object.key);
  } catch (error) {
    if (isFailure(error, "MANIFEST_UNREADABLE")) return [];
    if (!isFailure(error, "MANIFEST_MISSING")) throw error;
    // Of an empty place nothing can be deleted, and "deleted" would not be true of the backup.
    await requireClusterFile(storage, address.clusterId, signal);
    return [];
  }
}
