import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { SshLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import type { StorageCredential } from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import { fail } from "@coppice/proto/kit/failure";
import { loadSsh2 } from "./load-ssh2.ts";

/** A private key to log in with, known to be one. */
export interface SshKey {
  readonly text: string;
  /** Empty where it has none. */
  readonly passphrase: string;
  /** Where it is from, for messages. */
  readonly origin: string;
}

/**
 * The sealed key, or without one that of the agent's own user. Fails with STORAGE_CREDENTIAL_UNUSABLE: no file, no key,
 * a passphrase missing or wrong.
 */
export async function readSshKey(location: SshLocation, credential: StorageCredential | undefined): Promise<SshKey> {
  if (credential === undefined) return readIdentityFile(location);
  if (credential.kind.case !== "ssh") fail("STORAGE_CREDENTIAL_UNUSABLE", "the sealed credential is no key of SSH");
  const { privateKey, passphrase } = credential.kind.value;
  return parse("the sealed key", privateKey, passphrase);
}

async function readIdentityFile({ identityFile }: SshLocation): Promise<SshKey> {
  const path = identityFile || join(homedir(), ".ssh/id_ed25519");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    return fail("STORAGE_CREDENTIAL_UNUSABLE", `cannot read the private key ${path}: ${code}`, { cause: error });
  }
  return parse(`the key ${path}`, text, "");
}

async function parse(origin: string, text: string, passphrase: string): Promise<SshKey> {
  const { utils } = await loadSsh2();
  const key = utils.parseKey(text, passphrase === "" ? undefined : passphrase);
  if (key instanceof Error) {
    // The library's texts tell the cases apart and hold nothing of the key.
    const said = key.message;
    if (said.includes("no passphrase given")) {
      fail("STORAGE_CREDENTIAL_UNUSABLE", `${origin} has a passphrase and none is known`, {
        hint: "seal the key together with its passphrase, or use a key without one",
      });
    }
    if (/passphrase|integrity|bad decrypt/i.test(said)) {
      fail("STORAGE_CREDENTIAL_UNUSABLE", `the passphrase of ${origin} is wrong`);
    }
    return fail("STORAGE_CREDENTIAL_UNUSABLE", `${origin} is no private key of SSH`, { cause: key });
  }
  if (!key.isPrivateKey())
    fail("STORAGE_CREDENTIAL_UNUSABLE", `${origin} is a public key, and a private one is needed`);
  return { text, passphrase, origin };
}
