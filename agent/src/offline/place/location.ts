import { create } from "@bufbuild/protobuf";
import {
  FilesystemLocationSchema,
  type RepositoryLocation,
  RepositoryLocationSchema,
} from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import { parseRemoteLocation } from "@coppice/proto/kit/repository/remote-location";

const hint = "write /path, file:///path, s3://BUCKET/PREFIX or ssh://USER@SERVER:PORT/path";

/**
 * Reads the address of a repository as it is seen from this machine: a folder (`/path`, `file:///path`, whose percent
 * escapes are resolved), `s3://bucket/prefix` or `ssh://user@server:port/path`. Fails with INVALID_FIELD.
 */
export function parseRepositoryUrl(text: string): RepositoryLocation {
  const path = text.startsWith("file://") ? unescape(text, text.slice("file://".length)) : text;
  if (path.startsWith("/") && !path.includes("\0")) {
    const value = create(FilesystemLocationSchema, { path });
    return create(RepositoryLocationSchema, { kind: { case: "filesystem", value } });
  }
  const remote = path === text ? parseRemoteLocation(text) : undefined;
  return remote ?? fail("INVALID_FIELD", `${text} is not the place of a repository`, { hint });
}

function unescape(url: string, path: string): string {
  try {
    return decodeURIComponent(path);
  } catch (cause) {
    return fail("INVALID_FIELD", `${url} has a percent sign that escapes nothing`, { hint, cause });
  }
}
