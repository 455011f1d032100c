import { sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";

/** Tells those who watch the operation, once the transaction is committed. */
export async function notifyOperation(tx: Database, operationId: string): Promise<void> {
  await tx.execute(sql`select pg_notify('coppice_operation', ${operationId})`);
}

/** Wakes whoever holds the session of the host's agent, once the transaction is committed. */
export async function notifyAgent(tx: Database, hostId: string): Promise<void> {
  await tx.execute(sql`select pg_notify('coppice_agent', ${hostId})`);
}
