import { eq, type SQL } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";

/** The condition for "name or id": ids have an underscore, names never. */
export function isReferredBy(columns: { id: PgColumn; name: PgColumn }, reference: string): SQL {
  return eq(reference.includes("_") ? columns.id : columns.name, reference);
}
