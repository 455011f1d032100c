import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import {
  type RepositoryLocation,
  type S3Location,
  type SshLocation,
} from "@coppice/proto/gen/coppice/common/v1/location";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { findHostKeys, knownHostName, parseHostKey } from "@coppice/proto/kit/repository/known-hosts";
import { openStorage } from "../../storage/open.ts";
import type { Storage } from "../../storage/storage.ts";
import { parseRepositoryUrl } from "./location.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";

/** Flags that say where a repository is and how it is reached. Keys of S3 come from the environment or a profile. */
export interface PlaceOptions {
  readonly repo: string;
  readonly endpoint?: string;
  readonly region?: string;
  readonly pathStyle?: boolean;
  readonly caFile?: string;
  readonly profile?: string;
  readonly hostKey?: readonly string[];
  readonly knownHosts?: string;
  readonly identityFile?: string;
}

type Kind = NonNullable<RepositoryLocation["kind"]["case"]>;

const fitting: Readonly<Record<Exclude<keyof PlaceOptions, "repo">, Kind>> = {
  endpoint: "s3",
  region: "s3",
  pathStyle: "s3",
  caFile: "s3",
  profile: "s3",
  hostKey: "ssh",
  knownHosts: "ssh",
  identityFile: "ssh",
};

/**
 * Opens the repository that the flags describe, to read it. Fails with INVALID_FIELD, HOST_KEY_UNTRUSTED when no key of
 * an SSH server is known, or as openStorage does.
 */
export async function openPlace(options: PlaceOptions, signal: AbortSignal): Promise<Storage> {
  const location = parseRepositoryUrl(options.repo);
  for (const [name, kind] of Object.entries(fitting) as [keyof typeof fitting, Kind][]) {
    if (options[name] === undefined || kind === location.kind.case) continue;
    const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    fail("INVALID_FIELD", `--${flag} says nothing of ${options.repo}`, { hint: `leave it out; it is for ${kind}://` });
  }
  if (location.kind.case === "s3") await completeBucket(location.kind.value, options);
  if (location.kind.case === "ssh") await completeServer(location.kind.value, options);
  return await openStorage(location, { operationId: newId("op"), signal });
}

async function completeBucket(bucket: S3Location, options: PlaceOptions): Promise<void> {
  const { endpoint = "", region = "", pathStyle, profile = "", caFile } = options;
  bucket.endpoint = endpoint.replace(/\/+$/, "");
  if (bucket.endpoint !== "" && !/^https?:\/\/[^\s/@?#]+$/.test(bucket.endpoint)) {
    fail("INVALID_FIELD", "--endpoint is not the address of an S3 server", {
      hint: "write https://HOST[:PORT]; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a --profile",
    });
  }
  bucket.region = region;
  bucket.profile = profile;
  if (pathStyle !== undefined) bucket.pathStyle = pathStyle;
  if (caFile === undefined) return;
  bucket.caPem = await readTextFile(caFile, "authorities");
  if (!bucket.caPem.includes("-----BEGIN CERTIFICATE-----")) fail("INVALID_FIELD", `${caFile} holds no certificate`);
}

async function completeServer(server: SshLocation, options: PlaceOptions): Promise<void> {
  const { hostKey = [], knownHosts, identityFile = "" } = options;
  if (identityFile !== "" && !identityFile.startsWith("/"))
    fail("INVALID_FIELD", `--identity-file ${identityFile} is not an absolute path`);
  server.identityFile = identityFile;
  const given = hostKey.map((text) => parseHostKey(text) ?? fail("INVALID_FIELD", `${text} is no public host key`));
  const known = given.length > 0 && knownHosts === undefined ? "" : await readKnownHosts(knownHosts);
  server.hostKeys = [...new Set([...given, ...findHostKeys(known, server)])];
  if (server.hostKeys.length > 0) return;
  const port = server.port === 0 || server.port === 22 ? "" : `-p ${server.port} `;
  fail("HOST_KEY_UNTRUSTED", `${knownHostName(server)} is in no file of known hosts`, {
    hint: `run ssh-keyscan ${port}${server.host}, compare its keys with those on the server itself, and give one: --host-key "TYPE BASE64"`,
  });
}

async function readKnownHosts(file: string | undefined): Promise<string> {
  if (file !== undefined) return await readTextFile(file, "known hosts");
  const usual = [join(homedir(), ".ssh/known_hosts"), "/etc/ssh/ssh_known_hosts"];
  const texts = usual.map((path) =>
    readFile(path, "utf8").catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
      throw error;
    }),
  );
  return (await Promise.all(texts)).join("\n");
}
