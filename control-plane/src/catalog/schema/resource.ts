import { type SQL, sql } from "drizzle-orm";
import { integer, jsonb, type PgColumn, text } from "drizzle-orm/pg-core";
import { time } from "./column-types.ts";

/** Columns of everything that people name: id, name, labels, version (its etag), times. */
export function resourceColumns(table: string) {
  return {
    id: text().primaryKey(),
    name: text().notNull().unique(`${table}_name`),
    labels: jsonb().$type<Record<string, string>>().notNull().default({}),
    version: integer().notNull().default(1),
    createTime: time().notNull().defaultNow(),
    updateTime: time().notNull().defaultNow(),
  };
}

/** What a name must look like; ids have an underscore, names never. */
export function isName(column: PgColumn): SQL {
  return sql`${column} ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'`;
}
