import type { WalArchive } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { fail } from "@coppice/proto/kit/failure";
import { isShared, requireSharedMark } from "../../repository/shared-mark.ts";
import { type AccessContext, storageAccess } from "../../repository/storage-access.ts";
import { openStorage } from "../../storage/open.ts";
import type { Storage } from "../../storage/storage.ts";

/** Opens the repository that WAL of a cluster is archived into. Fails with INVALID_FIELD, and as opening a storage does. */
export async function openArchiveTarget(
  archive: Pick<WalArchive, "clusterId" | "repository">,
  options: Omit<AccessContext, "operationId">,
): Promise<Storage> {
  const target = archive.repository ?? fail("INVALID_FIELD", "the archive has no repository");
  const location = target.location ?? fail("INVALID_FIELD", "the archive's repository has no location");
  const access = storageAccess(target, { ...options, operationId: archive.clusterId });
  const storage = await openStorage(location, access);
  try {
    if (isShared(target)) await requireSharedMark(storage, target, options.signal);
    return storage;
  } catch (error) {
    await storage[Symbol.asyncDispose]();
    throw error;
  }
}
