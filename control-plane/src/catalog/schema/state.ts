import { sql } from "drizzle-orm";
import { bigint, boolean, check, pgSequence, pgTable } from "drizzle-orm/pg-core";
import { time } from "./column-types.ts";

/** The one row that tells one catalog from another that replaced it. */
export const catalogState = pgTable(
  "catalog_state",
  {
    id: boolean().primaryKey().default(true),
    /** Milliseconds since 1970 at which this catalog was made, so that a rebuilt one is always greater. */
    incarnation: bigint({ mode: "bigint" }).notNull(),
    createTime: time().notNull().defaultNow(),
  },
  (t) => [check("catalog_state_one_row", sql`${t.id}`)],
);

/** Numbers of fences, within one incarnation. */
export const fenceNumber = pgSequence("fence_number", { startWith: 1 });

/** Grows with every change of any operation; the cursor of those who watch. */
export const operationRevision = pgSequence("operation_revision", { startWith: 1 });

/** Numbers the sessions of agents, so that what an ended one still says is told from the present one's. */
export const sessionEpoch = pgSequence("session_epoch", { startWith: 1 });
