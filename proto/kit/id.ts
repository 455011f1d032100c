import { randomBytes } from "node:crypto";

/** What each id names, by its prefix. Names that people give have no underscore, so an id is never taken for one. */
export const idPrefixes = {
  aud: "audit entry",
  bkp: "backup",
  cls: "cluster",
  cmd: "command",
  enr: "enrolment",
  fnd: "finding",
  hst: "host",
  ins: "instance",
  op: "operation",
  rep: "repository",
  sec: "secret",
  tok: "token",
} as const;

export type IdPrefix = keyof typeof idPrefixes;

/** Where an id takes its time (ms since 1970) and its ten random bytes from. */
export interface IdSource {
  readonly now?: () => number;
  readonly random?: () => Uint8Array;
}

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
// 26 digits of five bits hold 130; the 128 of a UUID leave the first one at 7 or less.
const pattern = /^([a-z]+)_[0-7][0-9a-hjkmnp-tv-z]{25}$/;

/**
 * A new immutable id: the prefix, `_`, and a UUID of version 7 (RFC 9562: 48 bits of milliseconds, then random ones)
 * in 26 lower-case digits of Crockford's base 32. Ids of later milliseconds sort after earlier ones.
 */
export function newId(prefix: IdPrefix, { now = Date.now, random = () => randomBytes(10) }: IdSource = {}): string {
  let bits = BigInt(now());
  for (const byte of random()) bits = (bits << 8n) | BigInt(byte);
  const version = 0xfn << 76n;
  const variant = 0x3n << 62n;
  bits = (bits & ~version & ~variant) | (0x7n << 76n) | (0x2n << 62n);
  let text = "";
  for (let digit = 0; digit < 26; digit++, bits >>= 5n) text = alphabet.charAt(Number(bits & 31n)) + text;
  return `${prefix}_${text}`;
}

/** Whether the text is an id, of the given prefix when one is named. */
export function isId(text: string, prefix?: IdPrefix): boolean {
  const found = pattern.exec(text)?.[1];
  return found !== undefined && (prefix === undefined ? Object.hasOwn(idPrefixes, found) : found === prefix);
}
