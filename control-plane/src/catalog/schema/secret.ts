import { pgTable, text } from "drizzle-orm/pg-core";
import { bytea, time } from "./column-types.ts";

/** Secrets sealed under the master key, with the row's id as associated data. */
export const secret = pgTable("secret", {
  id: text().primaryKey(),
  /** What it is for, for people to read. */
  purpose: text().notNull(),
  sealed: bytea().notNull(),
  createTime: time().notNull().defaultNow(),
});
