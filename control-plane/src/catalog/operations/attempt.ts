import type { JsonValue } from "@bufbuild/protobuf";
import { and, count, eq, isNull } from "drizzle-orm";
import type { Database } from "../catalog.ts";
import { operationAttempt } from "../schema/operation.ts";

/** A try begins. */
export async function insertAttempt(
  tx: Database,
  row: { operationId: string; number: number; settling: boolean },
): Promise<void> {
  await tx.insert(operationAttempt).values(row);
}

/** A try has ended, or is given up. One that has ended already keeps its end. */
export async function endAttempt(
  tx: Database,
  attempt: { operationId: string; number: number; failure: JsonValue | null },
): Promise<void> {
  const { operationId, number, failure } = attempt;
  await tx
    .update(operationAttempt)
    .set({ endTime: new Date(), failure })
    .where(
      and(
        eq(operationAttempt.operationId, operationId),
        eq(operationAttempt.number, number),
        isNull(operationAttempt.endTime),
      ),
    );
}

/** How many tries there were, those that only looked how one ended counted apart. */
export async function countAttempts(tx: Database, operationId: string): Promise<{ tries: number; looks: number }> {
  const rows = await tx
    .select({ settling: operationAttempt.settling, many: count() })
    .from(operationAttempt)
    .where(eq(operationAttempt.operationId, operationId))
    .groupBy(operationAttempt.settling);
  const of = (settling: boolean) => rows.find((row) => row.settling === settling)?.many ?? 0;
  return { tries: of(false), looks: of(true) };
}

/** Whether that try has neither ended nor been given up. */
export async function isAttemptOpen(tx: Database, operationId: string, number: number): Promise<boolean> {
  const rows = await tx
    .select({ number: operationAttempt.number })
    .from(operationAttempt)
    .where(
      and(
        eq(operationAttempt.operationId, operationId),
        eq(operationAttempt.number, number),
        isNull(operationAttempt.endTime),
      ),
    );
  return rows.length > 0;
}
