import { fail } from "@coppice/proto/kit/failure";

/** Age identities, as they are sealed. */
export interface Identities {
  /** A line each. */
  readonly file: string;
  /** Whose they are, in the same order. */
  readonly recipients: readonly string[];
}

/** Makes a new identity. */
export async function makeIdentity(): Promise<Identities> {
  const { generateX25519Identity, identityToRecipient } = await import("age-encryption");
  const identity = await generateX25519Identity();
  return { file: `${identity}\n`, recipients: [await identityToRecipient(identity)] };
}

/**
 * Reads an age identity file. Errors: INVALID_FIELD, naming the field, when it holds none, or something else than X25519
 * identities; nothing of what was given is said.
 */
export async function readIdentities(text: string, field: string): Promise<Identities> {
  const { identityToRecipient } = await import("age-encryption");
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  const refuse = (what: string) =>
    fail("INVALID_FIELD", `the identity file ${what}`, {
      fields: [{ field, expected: "lines that age-keygen writes, AGE-SECRET-KEY-1…" }],
      hint: "give the file that age-keygen wrote; decrypt it first where a passphrase locks it: `age -d FILE`",
    });
  const recipients: string[] = [];
  for (const line of lines) {
    if (!line.toUpperCase().startsWith("AGE-SECRET-KEY-1")) refuse("holds a line that is no X25519 identity");
    try {
      recipients.push(await identityToRecipient(line));
    } catch {
      // Its error might quote the line.
      refuse("holds an identity that is damaged");
    }
  }
  if (recipients.length === 0) refuse("holds no identity");
  return { file: `${lines.join("\n")}\n`, recipients };
}
