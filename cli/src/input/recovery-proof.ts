import { create } from "@bufbuild/protobuf";
import {
  type NewRepositoryEncryption,
  NewRepositoryEncryptionSchema,
  type RecoveryChallenge,
} from "@coppice/proto/gen/coppice/control/v1/repository";
import { fail } from "@coppice/proto/kit/failure";
import { Option } from "commander";
import type { Session } from "../session.ts";
import { ask } from "./ask.ts";
import { repeatableOption } from "./options.ts";
import { readTextFile } from "@coppice/proto/kit/read-text-file";

/** Flags of an encrypted repository. */
export interface EncryptionOptions {
  readonly recoveryRecipient?: string;
  readonly recoveryIdentity?: string;
  readonly recipient?: readonly string[];
  readonly identity?: string;
  readonly withoutIdentity?: boolean;
}

/** Those flags, for commands that take them. */
export const encryptionOptions = () => [
  new Option("--recovery-recipient <age1…>", "encrypt; the identity of this age recipient is kept outside of Coppice"),
  new Option("--recovery-identity <file>", "age identity file that proves it here and now; it is not sent anywhere"),
  repeatableOption("--recipient <age1…>", "a further recipient (may be repeated)"),
  new Option(
    "--identity <file>",
    "age identity that opens what is stored there already; it is sealed in the catalog, and none is made",
  ).conflicts("withoutIdentity"),
  new Option("--without-identity", "keep no identity in the catalog: restoring then takes an identity file"),
];

/**
 * Has the holder of the recovery identity decrypt a probe: with the file that is given, else by hand at the terminal.
 * Gives what a new repository asks for; undefined when it is not to be encrypted. Fails with INVALID_FIELD or
 * RECOVERY_NOT_PROVED.
 */
export async function proveRecovery(
  session: Pick<Session, "terminal" | "signal" | "interrupts">,
  options: EncryptionOptions,
  challenge: (recoveryRecipient: string) => Promise<RecoveryChallenge>,
): Promise<NewRepositoryEncryption | undefined> {
  const { recoveryRecipient, recoveryIdentity, recipient = [], identity, withoutIdentity = false } = options;
  if (recoveryRecipient === undefined) {
    const isPlain =
      recoveryIdentity === undefined && identity === undefined && recipient.length === 0 && !withoutIdentity;
    if (isPlain) return undefined;
    return fail("INVALID_FIELD", "an encrypted repository needs a recovery recipient", {
      hint: "make one with `age-keygen -o recovery.txt`, keep the file elsewhere, give its public key: --recovery-recipient age1…",
    });
  }
  const adopted = identity === undefined ? "" : await readTextFile(identity, "identity");
  const { encryptedProbe, token } = await challenge(recoveryRecipient);
  const answer =
    recoveryIdentity === undefined
      ? await askForAnswer(session, encryptedProbe)
      : await decrypt(encryptedProbe, recoveryIdentity);
  return create(NewRepositoryEncryptionSchema, {
    recoveryRecipient,
    challengeToken: token,
    answer: answer.trim(),
    recipients: [...recipient],
    withoutIdentity,
    identity: adopted,
  });
}

async function askForAnswer(session: Parameters<typeof ask>[0], encryptedProbe: string): Promise<string> {
  const { terminal } = session;
  if (!terminal.stdinIsTty) {
    fail("RECOVERY_NOT_PROVED", "the recovery identity was not proved: standard input is no terminal", {
      hint: "give its file: --recovery-identity FILE",
    });
  }
  terminal.err(
    `Prove that the recovery identity is at hand. Where it is kept, run\n\n  age -d -i IDENTITY\n\nand feed it this:\n\n${encryptedProbe.trim()}\n\n`,
  );
  return await ask(session, "  what it prints: ");
}

async function decrypt(encryptedProbe: string, file: string): Promise<string> {
  const identities = await readIdentities(file);
  const { armor, Decrypter } = await import("age-encryption");
  const decrypter = new Decrypter();
  try {
    for (const identity of identities) decrypter.addIdentity(identity);
    return await decrypter.decrypt(armor.decode(encryptedProbe), "text");
  } catch (cause) {
    return fail("RECOVERY_NOT_PROVED", `the identities in ${file} are not those of the recovery recipient`, {
      hint: "compare with `age-keygen -y FILE`; for an identity of a plugin or with a passphrase leave --recovery-identity out",
      cause,
    });
  }
}

async function readIdentities(file: string): Promise<string[]> {
  return (await readTextFile(file, "identity"))
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}
