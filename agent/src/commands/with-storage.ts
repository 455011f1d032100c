import type { RepositoryTarget } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { isShared, requireSharedMark } from "../repository/shared-mark.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage } from "../storage/storage.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";
import { storageAccess } from "../repository/storage-access.ts";

/** Does the work with the repository's storage and closes it at the end. */
export async function withStorage<T>(
  target: RepositoryTarget | undefined,
  context: CommandContext,
  work: (storage: Storage) => Promise<T>,
): Promise<T> {
  const repository = required(target, "repository");
  const location = required(repository.location, "repository.location");
  await using storage = await openStorage(location, storageAccess(repository, context));
  if (isShared(repository)) await requireSharedMark(storage, repository, context.signal);
  return await work(storage);
}
