import { newId } from "@coppice/proto/kit/id";
import type { Database } from "../catalog/catalog.ts";
import type { RoleName } from "../catalog/schema/token.ts";
import { insertToken, type TokenRow } from "../catalog/token.ts";
import { hashTokenValue, newTokenValue } from "./token-value.ts";

/**
 * Makes a token; its value exists in the answer alone. `tx` is the transaction that also writes the audit. Fails with
 * NAME_TAKEN.
 */
export async function issueToken(
  tx: Database,
  token: { name: string; role: RoleName; expireTime: Date | null },
): Promise<{ row: TokenRow; value: string }> {
  const value = newTokenValue();
  const hash = hashTokenValue(value);
  if (hash === undefined) throw new Error("a new token has the form of a token");
  return { row: await insertToken(tx, { id: newId("tok"), hash, ...token }), value };
}
