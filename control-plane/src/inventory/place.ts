import { posix } from "node:path";
import { create } from "@bufbuild/protobuf";
import {
  type FilesystemLocation,
  type RepositoryLocation,
  RepositoryLocationSchema,
  type S3Location,
  type SshLocation,
} from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";

/** A repository's place: as agents get it, and as one text that two repositories cannot share. */
export interface Place {
  readonly location: RepositoryLocation;
  readonly key: string;
}

/**
 * Reads a location, its path without detours. A folder belongs to its home host; other places have none. Errors:
 * INVALID_FIELD.
 */
export function parsePlace(location: RepositoryLocation | undefined, homeHostId: string | undefined): Place {
  const kind = location?.kind;
  switch (kind?.case) {
    case "filesystem":
      return parseFolder(kind.value, homeHostId);
    case "s3":
      refuseHome(homeHostId, "an S3 bucket");
      return parseBucket(kind.value);
    case "ssh":
      refuseHome(homeHostId, "an SSH server");
      return parseServer(kind.value);
    case undefined:
      return fail("INVALID_FIELD", "location: a place is expected");
  }
}

function parseFolder(folder: FilesystemLocation, homeHostId: string | undefined): Place {
  if (homeHostId === undefined) {
    fail("INVALID_FIELD", "home_host: a folder needs the host that it is on", {
      fields: [{ field: "home_host", expected: "name or id of a host" }],
    });
  }
  const path = parsePath(folder.path, "location.filesystem.path");
  return {
    location: create(RepositoryLocationSchema, {
      kind: { case: "filesystem", value: { path, shared: folder.shared } },
    }),
    key: folder.shared ? `filesystem:shared:${path}` : `filesystem:${homeHostId}:${path}`,
  };
}

function parseBucket(bucket: S3Location): Place {
  if (bucket.kmsKeyId !== "" && bucket.serverSideEncryption !== "aws:kms") {
    fail("INVALID_FIELD", "location.s3.kms_key_id: a key is given without aws:kms", {
      fields: [{ field: "location.s3.server_side_encryption", expected: "aws:kms" }],
    });
  }
  const endpoint = bucket.endpoint.toLowerCase().replace(/\/+$/, "");
  return {
    location: create(RepositoryLocationSchema, { kind: { case: "s3", value: { ...bucket, endpoint } } }),
    key: `s3:${endpoint}:${bucket.bucket}/${bucket.prefix}`,
  };
}

function parseServer(server: SshLocation): Place {
  const path = parsePath(server.path, "location.ssh.path");
  const port = server.port || 22;
  return {
    location: create(RepositoryLocationSchema, { kind: { case: "ssh", value: { ...server, path, port } } }),
    key: `ssh:${server.host.toLowerCase()}:${port}:${path}`,
  };
}

function parsePath(given: string, field: string): string {
  const path = posix.normalize(given).replace(/(?<=.)\/+$/, "");
  if (path === "/") {
    fail("INVALID_FIELD", `${field}: the root folder is no repository`, {
      fields: [{ field, expected: "a folder below the root folder", value: given }],
    });
  }
  return path;
}

function refuseHome(homeHostId: string | undefined, what: string): void {
  if (homeHostId === undefined) return;
  fail("INVALID_FIELD", `home_host: ${what} has none, every host reaches it`, {
    fields: [{ field: "home_host", expected: "nothing" }],
  });
}
