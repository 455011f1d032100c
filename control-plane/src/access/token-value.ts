import { createHash, randomBytes } from "node:crypto";

const pattern = /^cop_[A-Za-z0-9_-]{43}$/;

/** A new access token: `cop_` and 256 random bits. Only its hash is kept. */
export function newTokenValue(): string {
  return `cop_${randomBytes(32).toString("base64url")}`;
}

/** SHA-256 of a token's value, by which the catalog knows it; undefined for what cannot be a token. */
export function hashTokenValue(value: string): Buffer | undefined {
  return pattern.test(value) ? createHash("sha256").update(value).digest() : undefined;
}
