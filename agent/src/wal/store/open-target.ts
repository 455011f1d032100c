import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { fail } from "@coppice/proto/kit/failure";
import { requireAnyClusterFile } from "../../repository/cluster-file.ts";
import { isShared, requireSharedMark } from "../../repository/shared-mark.ts";
import { type AccessContext, storageAccess } from "../../repository/storage-access.ts";
import { lookIfAllowed } from "../../storage/look-if-allowed.ts";
import { openStorage } from "../../storage/open.ts";
import type { Storage } from "../../storage/storage.ts";

/**
 * Opens the repository that WAL of a cluster is archived into. Fails with INVALID_FIELD, with REPOSITORY_UNREACHABLE where it
 * is another place, and as opening a storage does.
 */
export async function openArchiveTarget(
  archive: Pick<WalArchive, "clusterId" | "repository" | "knownClusters">,
  options: Omit<AccessContext, "operationId">,
): Promise<Storage> {
  const target = archive.repository ?? fail("INVALID_FIELD", "the archive has no repository");
  const location = target.location ?? fail("INVALID_FIELD", "the archive's repository has no location");
  const access = storageAccess(target, { ...options, operationId: archive.clusterId });
  const storage = await openStorage(location, access);
  try {
    if (isShared(target)) await requireSharedMark(storage, target, options.signal);
    const known = archive.knownClusters;
    // Those that an archive began with may be given up later, when its own cluster has backups there.
    const clusters = known.length === 0 ? [] : [...known, archive.clusterId];
    await lookIfAllowed(storage, () => requireAnyClusterFile(storage, clusters, options.signal));
    return storage;
  } catch (error) {
    await storage[Symbol.asyncDispose]();
    throw error;
  }
}
