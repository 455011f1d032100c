import { clone } from "@bufbuild/protobuf";
import {
  type RepositoryLocation,
  RepositoryLocationSchema,
  type S3Location,
  type SshLocation,
} from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import { Option } from "commander";
import { type HostKeyOptions, hostKeyOptions, howToGet, readHostKeys } from "./host-keys.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";
import { type CredentialOptions, credentialOptions } from "./storage-credentials.ts";

/** Flags that say how a place is used, each for places of one kind. */
export interface PlaceOptions extends HostKeyOptions, CredentialOptions {
  readonly shared?: boolean;
  readonly endpoint?: string;
  readonly region?: string;
  readonly pathStyle?: boolean;
  readonly storageClass?: string;
  readonly sse?: string;
  readonly kmsKey?: string;
  readonly caFile?: string;
  readonly profile?: string;
  readonly identityFile?: string;
}

/** Those flags, for commands that take them. */
export const placeOptions = () => [
  new Option("--shared", "folder: one filesystem that is mounted under this path on every host"),
  new Option("--endpoint <url>", "S3: address of the server, https://HOST[:PORT] (Amazon's own)"),
  new Option("--region <region>", "S3: region (the hosts' configuration, or us-east-1)"),
  new Option("--path-style", "S3: address the bucket by path (so it is with --endpoint)"),
  new Option("--no-path-style", "S3: address the bucket by host name (so it is at Amazon)"),
  new Option("--storage-class <class>", "S3: class of new objects, readable at once: STANDARD_IA (the bucket's)"),
  new Option("--sse <kind>", "S3: encryption by the server, asked for and read back").choices(["AES256", "aws:kms"]),
  new Option("--kms-key <id>", "S3: key for --sse aws:kms (the account's own)"),
  new Option("--ca-file <file>", "S3: authorities (PEM) that the server's certificate is checked with (the hosts')"),
  new Option("--profile <name>", "S3: profile of the hosts' own configuration that keys come from"),
  ...hostKeyOptions(),
  new Option("--identity-file <path>", "SSH: private key on the hosts, absolute path (~/.ssh/id_ed25519)"),
  ...credentialOptions(),
];

type Kind = NonNullable<RepositoryLocation["kind"]["case"]>;

const kinds: Readonly<Record<Kind, string>> = {
  filesystem: "a folder, HOST:/path",
  s3: "a bucket, s3://BUCKET/PREFIX",
  ssh: "a folder on a server, ssh://USER@SERVER/path",
};

/** Which kinds of place an option is for. */
const fitting: Readonly<Record<keyof PlaceOptions, readonly Kind[]>> = {
  shared: ["filesystem"],
  endpoint: ["s3"],
  region: ["s3"],
  pathStyle: ["s3"],
  storageClass: ["s3"],
  sse: ["s3"],
  kmsKey: ["s3"],
  caFile: ["s3"],
  profile: ["s3"],
  hostKey: ["ssh"],
  knownHosts: ["ssh"],
  identityFile: ["ssh"],
  credentials: ["s3", "ssh"],
};

/** Refuses options that say nothing about a place of that kind. Fails with INVALID_FIELD. */
export function refuseForeignOptions(options: PlaceOptions, kind: Kind | undefined): void {
  for (const [name, fits] of Object.entries(fitting) as [keyof PlaceOptions, readonly Kind[]][]) {
    if (options[name] === undefined || kind === undefined || fits.includes(kind)) continue;
    fail("INVALID_FIELD", `${flagOf(name)} does not fit ${kinds[kind]}`, {
      hint: `leave it out; it is for ${fits.map((one) => kinds[one]).join(", or ")}`,
    });
  }
}

const flagOf = (name: string) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** A location with what the options say of it; the files they name are read. Fails with INVALID_FIELD. */
export async function applyPlaceOptions(
  location: RepositoryLocation,
  options: PlaceOptions,
): Promise<RepositoryLocation> {
  refuseForeignOptions(options, location.kind.case);
  const { kind, ...rest } = clone(RepositoryLocationSchema, location);
  switch (kind.case) {
    case "filesystem":
      kind.value.shared = options.shared ?? false;
      break;
    case "s3":
      await applyBucketOptions(kind.value, options);
      break;
    case "ssh":
      await applyServerOptions(kind.value, options);
      break;
    case undefined:
  }
  return { ...rest, kind };
}

async function applyBucketOptions(bucket: S3Location, options: PlaceOptions): Promise<void> {
  const { endpoint = "", region = "", pathStyle, storageClass = "", sse = "", kmsKey = "", profile = "" } = options;
  const address = endpoint.replace(/\/+$/, "");
  if (address !== "" && !/^https?:\/\/[^\s/@?#]+$/.test(address)) {
    fail("INVALID_FIELD", `${endpoint} is not the address of an S3 server`, {
      hint: "write https://HOST[:PORT]; the bucket stands in s3://BUCKET/PREFIX, keys in --credentials",
    });
  }
  if (kmsKey !== "" && sse !== "aws:kms") {
    fail("INVALID_FIELD", "--kms-key is given without --sse aws:kms", { hint: "add --sse aws:kms" });
  }
  const caPem = options.caFile === undefined ? "" : await readTextFile(options.caFile, "authorities");
  if (options.caFile !== undefined && !caPem.includes("-----BEGIN CERTIFICATE-----")) {
    fail("INVALID_FIELD", `${options.caFile} holds no certificate`, { hint: "name a file of PEM certificates" });
  }
  Object.assign(bucket, {
    endpoint: address,
    region,
    storageClass,
    serverSideEncryption: sse,
    kmsKeyId: kmsKey,
    caPem,
    profile,
    ...(pathStyle !== undefined && { pathStyle }),
  } satisfies Partial<S3Location>);
}

async function applyServerOptions(server: SshLocation, options: PlaceOptions): Promise<void> {
  const { identityFile = "" } = options;
  if (identityFile !== "" && !identityFile.startsWith("/")) {
    fail("INVALID_FIELD", `--identity-file ${identityFile} is not an absolute path`, {
      hint: "name the private key as the hosts see it, or seal its content with --credentials",
    });
  }
  server.hostKeys = await readHostKeys(options, server);
  if (server.hostKeys.length === 0) {
    fail("INVALID_FIELD", `no host key of ${server.host} is given, and an unknown server is never trusted`, {
      hint: howToGet(server),
    });
  }
  server.identityFile = identityFile;
}
