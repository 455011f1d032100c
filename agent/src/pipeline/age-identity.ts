import { createPrivateKey, createPublicKey } from "node:crypto";
import { fail } from "@coppice/proto/kit/failure";

const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const secretPrefix = "age-secret-key-";
/** What stands before the 32 bytes of an X25519 key in PKCS #8 (RFC 8410). */
const pkcs8Head = Buffer.from("302e020100300506032b656e04220420", "hex");

/** The checksum of bech32 (BIP 173); 1 for a sound text, its checksum included. */
function polymod(values: readonly number[]): number {
  const generator = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    for (const [bit, term] of generator.entries()) if ((top >>> bit) & 1) sum ^= term;
  }
  return sum;
}

function expand(prefix: string): number[] {
  const codes = [...Buffer.from(prefix, "latin1")];
  return [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31)];
}

/** Regroups bits; those left over are dropped when they make no whole value, or padded with zeros. */
function regroup(values: Iterable<number>, from: number, to: number, isPadded: boolean): number[] {
  const out: number[] = [];
  let [held, bits] = [0, 0];
  for (const value of values) {
    held = ((held << from) | value) & 0xfff;
    for (bits += from; bits >= to; bits -= to) out.push((held >> (bits - to)) & ((1 << to) - 1));
  }
  if (isPadded && bits > 0) out.push((held << (to - bits)) & ((1 << to) - 1));
  return out;
}

function encodeBech32(prefix: string, bytes: Uint8Array): string {
  const values = regroup(bytes, 8, 5, true);
  const sum = polymod([...expand(prefix), ...values, 0, 0, 0, 0, 0, 0]) ^ 1;
  const checksum = Array.from({ length: 6 }, (_, index) => (sum >>> (5 * (5 - index))) & 31);
  return `${prefix}1${[...values, ...checksum].map((value) => alphabet.charAt(value)).join("")}`;
}

function decodeBech32(prefix: string, text: string): Buffer | undefined {
  const lower = text.toLowerCase();
  if (text !== lower && text !== text.toUpperCase()) return undefined;
  if (!lower.startsWith(`${prefix}1`)) return undefined;
  const values = lower
    .slice(prefix.length + 1)
    .split("")
    .map((letter) => alphabet.indexOf(letter));
  if (values.includes(-1) || polymod([...expand(prefix), ...values]) !== 1) return undefined;
  return Buffer.from(regroup(values.slice(0, -6), 5, 8, false));
}

/** The recipient (age1…) that an X25519 identity (AGE-SECRET-KEY-1…) belongs to, or undefined for any other text. */
export function recipientOf(identity: string): string | undefined {
  const secret = decodeBech32(secretPrefix, identity);
  if (secret?.length !== 32) return undefined;
  const key = createPrivateKey({ key: Buffer.concat([pkcs8Head, secret]), format: "der", type: "pkcs8" });
  const { x } = createPublicKey(key).export({ format: "jwk" });
  return x === undefined ? undefined : encodeBech32("age", Buffer.from(x, "base64url"));
}

function notIdentity(line: string): string {
  return /^age1[0-9a-z]+$/.test(line) ? "a recipient, which only encrypts" : "a line that is no X25519 identity";
}

/**
 * Of an identity file's lines those that open something encrypted to the recipients, a line each, as decodePrograms
 * takes them; undefined where nothing is encrypted. So a wrong one is known before anything is fetched. Fails with
 * IDENTITY_MISSING without a file and IDENTITY_WRONG when none of it fits; both name the recipients wanted.
 */
export function matchIdentities(recipients: readonly string[], identities: string | undefined): string | undefined {
  if (recipients.length === 0) return undefined;
  const wanted = `it is encrypted to ${recipients.join(", ")}`;
  const metadata = { recipients: recipients.join(", ") };
  const lines = (identities ?? "").split("\n").map((line) => line.trim());
  const given = lines.filter((line) => line !== "" && !line.startsWith("#"));
  if (given.length === 0) fail("IDENTITY_MISSING", `${wanted}, and no identity was given`, { metadata });
  const fitting = given.filter((line) => recipients.includes(recipientOf(line) ?? ""));
  // Public keys only: what was given must not get into a message.
  const theirs = given.map((line) => recipientOf(line) ?? notIdentity(line)).join(", ");
  if (fitting.length === 0)
    fail("IDENTITY_WRONG", `${wanted}, and the identities given are of ${theirs}`, { metadata });
  return `${fitting.join("\n")}\n`;
}
