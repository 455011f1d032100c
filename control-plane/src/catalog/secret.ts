import { eq } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { secret } from "./schema/secret.ts";

/** Stores a sealed secret. */
export async function insertSecret(
  db: Database,
  row: { id: string; purpose: string; sealed: Uint8Array },
): Promise<void> {
  await db.insert(secret).values(row);
}

/** The sealed bytes of a secret. */
export async function findSecret(db: Database, id: string): Promise<Uint8Array | undefined> {
  const [row] = await db.select({ sealed: secret.sealed }).from(secret).where(eq(secret.id, id));
  return row?.sealed;
}

/** Forgets a secret that nothing refers to any more. */
export async function deleteSecret(db: Database, id: string): Promise<void> {
  await db.delete(secret).where(eq(secret.id, id));
}
