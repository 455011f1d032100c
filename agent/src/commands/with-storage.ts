import type { RepositoryTarget } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { Storage } from "../storage/storage.ts";
import { openStorage } from "../storage/open.ts";
import type { CommandContext } from "./handler.ts";
import { required } from "./required.ts";

/** Does the work with the repository's storage and closes it at the end. */
export async function withStorage<T>(
  target: RepositoryTarget | undefined,
  { operationId, signal }: CommandContext,
  work: (storage: Storage) => Promise<T>,
): Promise<T> {
  const location = required(required(target, "repository").location, "repository.location");
  await using storage = await openStorage(location, { operationId, signal });
  return await work(storage);
}
