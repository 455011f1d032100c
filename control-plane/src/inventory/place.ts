import { posix } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type RepositoryLocation, RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";

/** A repository's place: as agents get it, and as one text that two repositories cannot share. */
export interface Place {
  readonly location: RepositoryLocation;
  readonly key: string;
}

/** Reads a location, its path without detours. Errors: INVALID_FIELD. */
export function parsePlace(location: RepositoryLocation | undefined, homeHostId: string): Place {
  const kind = location?.kind;
  if (kind?.case !== "filesystem") fail("INVALID_FIELD", "location: a place is expected");
  const path = posix.normalize(kind.value.path).replace(/(?<=.)\/+$/, "");
  if (path === "/") {
    fail("INVALID_FIELD", "location.filesystem.path: the root folder is no repository", {
      fields: [
        { field: "location.filesystem.path", expected: "a folder below the root folder", value: kind.value.path },
      ],
    });
  }
  return {
    location: create(RepositoryLocationSchema, { kind: { case: "filesystem", value: { path } } }),
    key: `filesystem:${homeHostId}:${path}`,
  };
}
