import type { RepositoryLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import type { StorageAccess } from "./access.ts";
import { openFilesystem } from "./filesystem.ts";
import type { Storage } from "./storage.ts";

type Kind = NonNullable<RepositoryLocation["kind"]["case"]>;
type LocationOf<K extends Kind> = Extract<RepositoryLocation["kind"], { case: K }>["value"];
type Opener<K extends Kind> = (location: LocationOf<K>, access: StorageAccess) => Promise<Storage>;
type Storages = { readonly [K in Kind]: Opener<K> };

// What has a client library of its own is loaded when it is first needed.
const storages: Storages = {
  filesystem: ({ path }, { operationId, signal }) => openFilesystem(path, operationId, { signal }),
  s3: async (location, access) => (await import("./s3/s3.ts")).openS3(location, access),
  ssh: async (location, access) => (await import("./ssh/open-ssh.ts")).openSsh(location, access),
};

/**
 * Opens the storage at a location for the work of one operation, whose id marks what it leaves if it is killed.
 * Fails with REPOSITORY_UNREACHABLE when it is not there; never creates it.
 */
export async function openStorage({ kind }: RepositoryLocation, access: StorageAccess): Promise<Storage> {
  access.signal.throwIfAborted();
  switch (kind.case) {
    case "filesystem":
      return storages.filesystem(kind.value, access);
    case "s3":
      return storages.s3(kind.value, access);
    case "ssh":
      return storages.ssh(kind.value, access);
    case undefined:
      return fail("CAPABILITY_MISSING", "the repository is of a kind that this agent does not know");
  }
}
