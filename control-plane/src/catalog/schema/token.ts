import { sql } from "drizzle-orm";
import { check, pgTable, text, uniqueIndex } from "drizzle-orm/pg-core";
import { bytea, time } from "./column-types.ts";
import { isName } from "./resource.ts";

/** What a token may do, as Role spells it. */
export type RoleName = "VIEWER" | "OPERATOR" | "ADMIN";

/** Access tokens, by the SHA-256 of their value. */
export const token = pgTable(
  "token",
  {
    id: text().primaryKey(),
    name: text().notNull(),
    hash: bytea().notNull().unique("token_hash"),
    role: text().$type<RoleName>().notNull(),
    createTime: time().notNull().defaultNow(),
    expireTime: time(),
    revokeTime: time(),
    lastUsedTime: time(),
  },
  (t) => [
    uniqueIndex("token_name")
      .on(t.name)
      .where(sql`${t.revokeTime} is null`),
    check("token_name_form", isName(t.name)),
    check("token_role_known", sql`${t.role} in ('VIEWER', 'OPERATOR', 'ADMIN')`),
  ],
);
