import { create } from "@bufbuild/protobuf";
import {
  type RepositoryLocation,
  RepositoryLocationSchema,
  S3LocationSchema,
  SshLocationSchema,
} from "../../gen/coppice/common/v1/location_pb.js";
import { fail } from "../failure.ts";

const forms = "write s3://BUCKET/PREFIX or ssh://USER@SERVER/path; for example s3://acme-backups/prod";

/**
 * Reads `s3://bucket/prefix` or `ssh://user@server:port/path`, the places of repositories that are the same from
 * everywhere; undefined for a text without a scheme. Fails with INVALID_FIELD.
 */
export function parseRemoteLocation(text: string): RepositoryLocation | undefined {
  const [, scheme, rest = ""] = /^([a-z0-9]+):\/\/(.*)$/s.exec(text) ?? [];
  switch (scheme) {
    case undefined:
      return undefined;
    case "s3":
      return parseBucket(text, rest);
    case "ssh":
    case "sftp":
      return parseServer(text, rest);
    default:
      return fail("INVALID_FIELD", `repositories of kind ${scheme} are not known to this version`, { hint: forms });
  }
}

function parseBucket(text: string, rest: string): RepositoryLocation {
  const [, bucket, prefix = ""] = /^([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:\/(.*))?$/s.exec(rest) ?? [];
  if (bucket === undefined) {
    const name = rest.replace(/\/.*$/s, "");
    if (name === "") fail("INVALID_FIELD", `${text} names no bucket`, { hint: forms });
    fail("INVALID_FIELD", `${JSON.stringify(name)} is not the name of a bucket`, {
      hint: "names of buckets have 3 to 63 lower-case letters, digits, hyphens and dots",
    });
  }
  const value = create(S3LocationSchema, { bucket, prefix: prefix.replace(/^\/+|\/+$/g, "") });
  return create(RepositoryLocationSchema, { kind: { case: "s3", value } });
}

function parseServer(text: string, rest: string): RepositoryLocation {
  const match = /^([^@/\s]+)@(\[[0-9a-fA-F:.]+\]|[^:/@\s]+)(?::(\d{1,5}))?(\/.*)$/s.exec(rest);
  const [, user, host, port = "0", path] = match ?? [];
  if (user === undefined || host === undefined || path === undefined || Number(port) > 65_535) {
    fail("INVALID_FIELD", `${text} does not name user, server and folder`, {
      hint: "write ssh://USER@SERVER/path, for example ssh://backup@vault.example.com:2222/srv/backups",
    });
  }
  const value = create(SshLocationSchema, { user, host: host.replace(/^\[|\]$/g, ""), port: Number(port), path });
  return create(RepositoryLocationSchema, { kind: { case: "ssh", value } });
}
