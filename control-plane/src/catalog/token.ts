import { and, asc, eq, gt, isNull, or, sql } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { type RoleName, token } from "./schema/token.ts";

export type TokenRow = typeof token.$inferSelect;

/** The token of that hash, whatever its state. */
export async function findTokenByHash(db: Database, hash: Uint8Array): Promise<TokenRow | undefined> {
  const [row] = await db.select().from(token).where(eq(token.hash, hash));
  return row;
}

/** Notes when a token was last used. */
export async function noteTokenUse(db: Database, id: string, now: Date): Promise<void> {
  await db.update(token).set({ lastUsedTime: now }).where(eq(token.id, id));
}

/** A new token. Fails with NAME_TAKEN, when in a catalog transaction. */
export async function insertToken(
  db: Database,
  row: { id: string; name: string; hash: Uint8Array; role: RoleName; expireTime: Date | null },
): Promise<TokenRow> {
  const [inserted] = await db.insert(token).values(row).returning();
  if (inserted === undefined) throw new Error("the token was not inserted");
  return inserted;
}

/** The token of that id, or the one that is not revoked of that name. */
export async function findToken(db: Database, reference: string): Promise<TokenRow | undefined> {
  const [row] = await db
    .select()
    .from(token)
    .where(or(eq(token.id, reference), and(eq(token.name, reference), isNull(token.revokeTime))));
  return row;
}

/** At most `limit` tokens after the given name and id, revoked ones included. */
export function listTokens(
  db: Database,
  page: { after: readonly [string, string] | undefined; limit: number },
): Promise<TokenRow[]> {
  const { after, limit } = page;
  return db
    .select()
    .from(token)
    .where(after && or(gt(token.name, after[0]), and(eq(token.name, after[0]), gt(token.id, after[1]))))
    .orderBy(asc(token.name), asc(token.id))
    .limit(limit);
}

/**
 * Whether another token than this could administer: an admin's that is neither revoked nor ever expires. The tokens
 * stay locked until the transaction ends, so that two cannot be revoked side by side.
 */
export async function isOtherAdminToken(db: Database, id: string): Promise<boolean> {
  const admins = await db
    .select({ id: token.id })
    .from(token)
    .where(and(eq(token.role, "ADMIN"), isNull(token.revokeTime), isNull(token.expireTime)))
    .orderBy(asc(token.id))
    .for("update");
  return admins.some((admin) => admin.id !== id);
}

/** Ends a token; false when it had ended. */
export async function revokeToken(db: Database, id: string, now: Date): Promise<boolean> {
  const revoked = await db
    .update(token)
    .set({ revokeTime: now })
    .where(and(eq(token.id, id), isNull(token.revokeTime)))
    .returning({ id: token.id });
  return revoked.length > 0;
}

/** Whether there has ever been a token: the first start of a control plane makes the first one. */
export async function hasTokens(db: Database): Promise<boolean> {
  const [row] = await db
    .select({ one: sql<number>`1` })
    .from(token)
    .limit(1);
  return row !== undefined;
}

/** Keeps others from making tokens until the transaction ends. */
export async function lockTokens(db: Database): Promise<void> {
  await db.execute(sql`lock table ${token} in share row exclusive mode`);
}
