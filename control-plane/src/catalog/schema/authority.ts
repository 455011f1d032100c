import { pgTable, text } from "drizzle-orm/pg-core";
import { bytea, time } from "./column-types.ts";

/** Roots of the control plane's own certificate authority; the newest one signs. */
export const authority = pgTable("authority", {
  id: text().primaryKey(),
  certificatePem: text().notNull(),
  sealedKey: bytea().notNull(),
  createTime: time().notNull().defaultNow(),
});
