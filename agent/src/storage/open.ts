import type { RepositoryLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import { openFilesystem } from "./filesystem.ts";
import type { Storage } from "./storage.ts";

type Kind = NonNullable<RepositoryLocation["kind"]["case"]>;
type LocationOf<K extends Kind> = Extract<RepositoryLocation["kind"], { case: K }>["value"];
type Storages = { [K in Kind]: (location: LocationOf<K>, operationId: string) => Promise<Storage> };

const storages = {
  filesystem: ({ path }, operationId) => openFilesystem(path, operationId),
} satisfies Storages;

/**
 * Opens the storage at a location for the work of one operation, whose id marks what it leaves if it is killed.
 * Fails with REPOSITORY_UNREACHABLE when it is not there; never creates it.
 */
export async function openStorage(
  { kind }: RepositoryLocation,
  { operationId, signal }: { operationId: string; signal: AbortSignal },
): Promise<Storage> {
  signal.throwIfAborted();
  if (kind.case === undefined) fail("CAPABILITY_MISSING", "the repository is of a kind that this agent does not know");
  return storages[kind.case](kind.value, operationId);
}
