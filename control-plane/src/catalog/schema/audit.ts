import type { JsonValue } from "@bufbuild/protobuf";
import { index, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { time } from "./column-types.ts";

/** Who changed what; written in one transaction with the change. */
export const auditRecord = pgTable(
  "audit_record",
  {
    id: text().primaryKey(),
    time: time().notNull().defaultNow(),
    principal: text().notNull(),
    tokenId: text(),
    action: text().notNull(),
    subject: text().notNull(),
    subjectName: text().notNull(),
    /** The request as proto JSON, secret fields left out. */
    request: jsonb().$type<JsonValue>().notNull(),
    operationId: text(),
    peerAddress: text().notNull(),
  },
  (t) => [index("audit_record_time").on(t.time)],
);

/** Idempotency keys of creates that are no operations. */
export const request = pgTable(
  "request",
  {
    principalId: text().notNull(),
    requestId: text().notNull(),
    action: text().notNull(),
    resourceId: text().notNull(),
    /** SHA-256 of the request, so that an id that is used again for another one is noticed; null before that was kept. */
    digest: text(),
    createTime: time().notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.principalId, t.requestId] })],
);
