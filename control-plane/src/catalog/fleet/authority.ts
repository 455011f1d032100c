import { desc, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { authority } from "../schema/authority.ts";

export type AuthorityRow = typeof authority.$inferSelect;

/** Roots, newest first. */
export function listAuthorities(db: Database): Promise<AuthorityRow[]> {
  return db.select().from(authority).orderBy(desc(authority.createTime), desc(authority.id));
}

/** Lets only one replica at a time make a root, until the transaction ends. */
export async function lockAuthorities(tx: Database): Promise<void> {
  await tx.execute(sql`lock table ${authority} in share row exclusive mode`);
}

/** A new root. */
export async function insertAuthority(tx: Database, row: typeof authority.$inferInsert): Promise<AuthorityRow> {
  const [inserted] = await tx.insert(authority).values(row).returning();
  if (inserted === undefined) throw new Error("the root was not stored");
  return inserted;
}
