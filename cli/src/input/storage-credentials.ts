import { create } from "@bufbuild/protobuf";
import type { RepositoryLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import {
  S3CredentialSchema,
  SshCredentialSchema,
  type StorageCredential,
  StorageCredentialSchema,
} from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import {
  type RepositoryCredentialValues,
  RepositoryCredentialValuesSchema,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import { fail } from "@coppice/proto/kit/failure";
import { Option } from "commander";
import type { Session } from "../session.ts";
import { readSecretFromStdin } from "./read-stdin.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";

/** Flags by which credentials of a repository are given; no secret is ever an argument. */
export interface CredentialOptions {
  readonly credentials?: string;
}

/** That flag, for commands that take it. */
export const credentialOptions = () => [
  new Option(
    "--credentials <file>",
    "YAML with write, read and delete, or with one for all; - is standard input, env is AWS_… (the hosts' own)",
  ),
];

/** Refuses credentials of another kind of storage than the place's. Fails with INVALID_FIELD. */
export function refuseOtherKind(
  credentials: RepositoryCredentialValues | undefined,
  location: RepositoryLocation | undefined,
): void {
  const kind = location?.kind.case;
  const wrong = purposes.find((purpose) => credentials?.[purpose] && credentials[purpose].kind.case !== kind);
  if (wrong === undefined) return;
  fail("INVALID_FIELD", `the credentials to ${wrong} are not of the kind that the place takes`, {
    hint: kind === "ssh" ? "give a private key: private_key_file" : "give access_key_id and secret_access_key",
  });
}

const purposes = ["write", "read", "delete"] as const;
const example = "write: {access_key_id: AKIA…, secret_access_key: …}, or {private_key_file: /path, passphrase: …}";

/** The credentials that were given; undefined when the hosts' own are to be used. Fails with INVALID_FIELD. */
export async function readCredentials(
  session: Pick<Session, "terminal" | "signal">,
  { credentials: source }: CredentialOptions,
): Promise<RepositoryCredentialValues | undefined> {
  if (source === undefined) return undefined;
  if (source === "env") return create(RepositoryCredentialValuesSchema, { write: fromEnvironment(session) });
  const { stdin } = session.terminal;
  const text =
    source === "-"
      ? await readSecretFromStdin(stdin, "credentials file", session.signal)
      : await readTextFile(source, "credentials");
  // A CommonJS package: in the bundled program its names are found under `default` alone.
  const { parse, YAMLParseError } = (await import("yaml")).default;
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    // What the parser says quotes the text, and with it the secrets.
    return fail("INVALID_FIELD", "the credentials are no YAML", { hint: `write ${example}` });
  }
  if (!isMapping(document))
    return fail("INVALID_FIELD", "the credentials are no mapping", { hint: `write ${example}` });
  const byPurpose = purposes.some((purpose) => purpose in document) ? document : { write: document };
  const unknown = Object.keys(byPurpose).find((key) => !purposes.some((purpose) => purpose === key));
  if (unknown !== undefined) {
    fail("INVALID_FIELD", `the credentials name ${JSON.stringify(unknown)}`, { hint: "name write, read or delete" });
  }
  const values = create(RepositoryCredentialValuesSchema);
  for (const purpose of purposes) {
    if (byPurpose[purpose] !== undefined) values[purpose] = await parseCredential(purpose, byPurpose[purpose]);
  }
  return values;
}

function fromEnvironment({ terminal: { env } }: Pick<Session, "terminal">): StorageCredential {
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN = "" } = env;
  if (!AWS_ACCESS_KEY_ID || !AWS_SECRET_ACCESS_KEY) {
    return fail("INVALID_FIELD", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set", {
      hint: "export both, or give a file: --credentials FILE",
    });
  }
  return s3(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN);
}

async function parseCredential(purpose: string, given: unknown): Promise<StorageCredential> {
  const fields = isMapping(given) ? given : {};
  const text = (name: string) => {
    const value = fields[name];
    return typeof value === "string" ? value : undefined;
  };
  const [id, secret] = [text("access_key_id"), text("secret_access_key")];
  if (id && secret) return s3(id, secret, text("session_token") ?? "");
  const file = text("private_key_file");
  const key = file === undefined ? text("private_key") : await readTextFile(file, "private key");
  if (key) {
    const value = create(SshCredentialSchema, { privateKey: key, passphrase: text("passphrase") ?? "" });
    return create(StorageCredentialSchema, { kind: { case: "ssh", value } });
  }
  return fail("INVALID_FIELD", `the credentials to ${purpose} lack their keys`, { hint: `write ${example}` });
}

function s3(accessKeyId: string, secretAccessKey: string, sessionToken: string): StorageCredential {
  const value = create(S3CredentialSchema, { accessKeyId, secretAccessKey, sessionToken });
  return create(StorageCredentialSchema, { kind: { case: "s3", value } });
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
