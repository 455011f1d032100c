import { create } from "@bufbuild/protobuf";
import {
  FilesystemLocationSchema,
  type RepositoryLocation,
  RepositoryLocationSchema,
} from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import { parseRemoteLocation } from "@coppice/proto/kit/repository/remote-location";

/** Where a repository lives: a folder's home host, empty for other places, and the location as the contract spells it. */
export interface ParsedLocation {
  readonly homeHost: string;
  readonly location: RepositoryLocation;
}

const forms =
  "write HOST:/path, s3://BUCKET/PREFIX or ssh://USER@SERVER/path; for example db7:/srv/backups or s3://acme-backups/prod";

/** Reads `HOST:/path`, `s3://bucket/prefix` or `ssh://user@server:port/path`. Fails with INVALID_FIELD. */
export function parseLocation(text: string): ParsedLocation {
  const location = parseRemoteLocation(text);
  return location ? { homeHost: "", location } : parseFolder(text);
}

function parseFolder(text: string): ParsedLocation {
  const [, host, path] = /^([a-z0-9_-]+):(\/.*)$/s.exec(text) ?? [];
  if (host !== undefined && path !== undefined && !path.startsWith("//")) {
    const value = create(FilesystemLocationSchema, { path });
    return { homeHost: host, location: create(RepositoryLocationSchema, { kind: { case: "filesystem", value } }) };
  }
  if (text.startsWith("/")) {
    fail("INVALID_FIELD", `${text} does not say on which host the folder is`, {
      hint: `write HOST:/path, for example db7:${text}`,
    });
  }
  return fail("INVALID_FIELD", `${text} is not the place of a repository`, { hint: forms });
}

/** A repository's place, as it was written. */
export function formatLocation(homeHost: string, location: RepositoryLocation | undefined): string {
  switch (location?.kind.case) {
    case "filesystem":
      return `${homeHost}:${location.kind.value.path}`;
    case "s3": {
      const { bucket, prefix } = location.kind.value;
      return `s3://${bucket}${prefix && `/${prefix}`}`;
    }
    case "ssh": {
      const { user, host, port, path } = location.kind.value;
      return `ssh://${user}@${host.includes(":") ? `[${host}]` : host}${port === 0 || port === 22 ? "" : `:${port}`}${path}`;
    }
    case undefined:
      return "unknown kind";
  }
}
