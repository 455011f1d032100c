import { desc, lt } from "drizzle-orm";
import type { Database } from "./catalog.ts";
import { auditRecord } from "./schema/audit.ts";

export type AuditRow = typeof auditRecord.$inferSelect;

export async function insertAuditRecord(db: Database, row: typeof auditRecord.$inferInsert): Promise<void> {
  await db.insert(auditRecord).values(row);
}

/** At most `limit` records before the given id, newest first: ids grow with time. */
export function listAuditRecords(
  db: Database,
  page: { before?: string | undefined; limit: number },
): Promise<AuditRow[]> {
  return db
    .select()
    .from(auditRecord)
    .where(page.before === undefined ? undefined : lt(auditRecord.id, page.before))
    .orderBy(desc(auditRecord.id))
    .limit(page.limit);
}
