import { and, eq, gt, isNull, sql } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { enrolment, host } from "../schema/host.ts";
import type { HostRow } from "../host.ts";

/** The host of that name, locked until the transaction ends, made when there is none. */
export async function ensureHost(
  tx: Database,
  row: { id: string; name: string; labels: Record<string, string> },
): Promise<HostRow> {
  await tx.insert(host).values(row).onConflictDoNothing({ target: host.name });
  const [there] = await tx.select().from(host).where(eq(host.name, row.name)).for("update");
  if (there === undefined) throw new Error("the host was neither there nor made");
  return there;
}

/** A new token for a host; those that it had before and that were not used are gone. */
export async function replaceEnrolment(tx: Database, row: typeof enrolment.$inferInsert): Promise<void> {
  await deleteUnusedEnrolments(tx, row.hostId);
  await tx.insert(enrolment).values(row);
}

/** Tokens of the host that were not used are gone. */
export async function deleteUnusedEnrolments(tx: Database, hostId: string): Promise<void> {
  await tx.delete(enrolment).where(and(eq(enrolment.hostId, hostId), isNull(enrolment.useTime)));
}

/** A token with the name of its host. */
export interface EnrolmentRecord {
  readonly id: string;
  readonly hostId: string;
  readonly hostName: string;
  readonly useTime: Date | null;
  readonly expireTime: Date;
}

/** The token with that hash. */
export async function findEnrolment(tx: Database, tokenHash: Uint8Array): Promise<EnrolmentRecord | undefined> {
  const [row] = await tx
    .select({
      id: enrolment.id,
      hostId: enrolment.hostId,
      hostName: host.name,
      useTime: enrolment.useTime,
      expireTime: enrolment.expireTime,
    })
    .from(enrolment)
    .innerJoin(host, eq(host.id, enrolment.hostId))
    .where(eq(enrolment.tokenHash, tokenHash));
  return row;
}

/** Uses a token up; false when somebody else was faster or its time is over. */
export async function useEnrolment(tx: Database, id: string): Promise<boolean> {
  const rows = await tx
    .update(enrolment)
    .set({ useTime: sql`now()` })
    .where(and(eq(enrolment.id, id), isNull(enrolment.useTime), gt(enrolment.expireTime, sql`now()`)))
    .returning({ id: enrolment.id });
  return rows.length > 0;
}
