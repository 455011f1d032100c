import { and, asc, eq, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { operationLog } from "../schema/operation.ts";
import type { LogRow } from "./row.ts";

/** Stores lines; those that are there already stay as they are. */
export async function insertLogLines(tx: Database, rows: readonly (typeof operationLog.$inferInsert)[]): Promise<void> {
  if (rows.length === 0) return;
  await tx
    .insert(operationLog)
    .values([...rows])
    .onConflictDoNothing();
}

/**
 * Adds a line that the control plane itself has to tell, behind those that it told before, unless the log holds more than
 * `fullBytes`. The operation has to be locked, so that lines get their numbers one after the other.
 */
export async function appendLogLine(
  tx: Database,
  { operationId, text, fullBytes }: { readonly operationId: string; readonly text: string; readonly fullBytes: number },
): Promise<void> {
  if ((await countLogBytes(tx, operationId)) > fullBytes) return;
  const [last] = await tx
    .select({ line: sql<string>`coalesce(max(${operationLog.line}), 0)` })
    .from(operationLog)
    .where(and(eq(operationLog.operationId, operationId), eq(operationLog.attempt, 0)));
  const line = BigInt(last?.line ?? 0) + 1n;
  await tx.insert(operationLog).values({ operationId, attempt: 0, line, time: new Date(), text });
}

/** Bytes of text that the log of an operation holds. */
export async function countLogBytes(tx: Database, operationId: string): Promise<number> {
  const [row] = await tx
    .select({ bytes: sql<string>`coalesce(sum(octet_length(${operationLog.text})), 0)` })
    .from(operationLog)
    .where(eq(operationLog.operationId, operationId));
  return Number(row?.bytes ?? 0);
}

/** At most `limit` lines after the given one, in order. */
export function listLogLines(
  db: Database,
  page: { operationId: string; after: { attempt: number; line: bigint }; limit: number },
): Promise<LogRow[]> {
  const { operationId, after, limit } = page;
  return db
    .select()
    .from(operationLog)
    .where(
      and(
        eq(operationLog.operationId, operationId),
        sql`(${operationLog.attempt}, ${operationLog.line}) > (${after.attempt}, ${after.line})`,
      ),
    )
    .orderBy(asc(operationLog.attempt), asc(operationLog.line))
    .limit(limit);
}
