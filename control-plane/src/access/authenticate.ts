import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../catalog/catalog.ts";
import { findTokenByHash, noteTokenUse } from "../catalog/token.ts";
import type { Caller } from "./caller.ts";
import { hashTokenValue } from "./token-value.ts";

/** A token's use is noted once in that time: a list of hosts must not write to the catalog each time. */
const noteEveryMs = 60_000;

/**
 * Who the bearer of an Authorization header is. Errors: UNAUTHENTICATED without one, or when the token is unknown or
 * revoked; TOKEN_EXPIRED.
 */
export async function authenticate(
  db: Database,
  call: { authorization: string | null; peerAddress: string; now: Date },
): Promise<Caller> {
  const value = /^Bearer +(\S+)$/i.exec(call.authorization ?? "")?.[1];
  if (value === undefined) fail("UNAUTHENTICATED", "the request carries no bearer token");
  const hash = hashTokenValue(value);
  const token = hash && (await findTokenByHash(db, hash));
  if (token === undefined) fail("UNAUTHENTICATED", "the token is unknown");
  if (token.revokeTime !== null) fail("UNAUTHENTICATED", `token ${token.name} was revoked`);
  if (token.expireTime !== null && token.expireTime <= call.now) {
    fail("TOKEN_EXPIRED", `token ${token.name} expired at ${token.expireTime.toISOString()}`);
  }
  if (token.lastUsedTime === null || call.now.getTime() - token.lastUsedTime.getTime() > noteEveryMs) {
    await noteTokenUse(db, token.id, call.now);
  }
  return { principal: token.name, principalId: token.id, role: token.role, peerAddress: call.peerAddress };
}
