import type { JsonValue } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import {
  type AnyPgColumn,
  bigint,
  boolean,
  check,
  foreignKey,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  uniqueIndex,
} from "drizzle-orm/pg-core";
import { backup } from "./backup.ts";
import { time } from "./column-types.ts";
import { host } from "./host.ts";

/** State of an operation, as OperationState spells it. */
export type OperationStateName =
  | "QUEUED"
  | "DISPATCHED"
  | "RUNNING"
  | "SUCCEEDED"
  | "FAILED"
  | "CANCELLED"
  | "CANCELLING"
  | "INDETERMINATE";

/** Long-running work. Ids of clusters and repositories are kept when those are gone: it is history then. */
export const operation = pgTable(
  "operation",
  {
    id: text().primaryKey(),
    /** Case of the spec, such as create_backup. */
    kind: text().notNull(),
    /** coppice.control.v1.Operation with nothing but its spec, as proto JSON. */
    spec: jsonb().$type<JsonValue>().notNull(),
    /** The same with nothing but its result. */
    result: jsonb().$type<JsonValue>(),
    state: text().$type<OperationStateName>().notNull().default("QUEUED"),
    stateReason: text().notNull().default(""),
    /** coppice.common.v1.FailureDetail as proto JSON. */
    failure: jsonb().$type<JsonValue>(),
    hostId: text().references(() => host.id, { onDelete: "set null" }),
    clusterId: text(),
    repositoryId: text(),
    parentId: text().references((): AnyPgColumn => operation.id, { onDelete: "cascade" }),
    /** Of the same parent: it is sent only once that one has succeeded. */
    afterId: text().references((): AnyPgColumn => operation.id, { onDelete: "cascade" }),
    /** Name and id of who asked. */
    principal: text().notNull(),
    principalId: text().notNull(),
    requestId: text(),
    /** SHA-256 of the request, so that a request id that is used again for another one is noticed. */
    requestDigest: text(),
    fenceIncarnation: bigint({ mode: "bigint" }),
    fenceNumber: bigint({ mode: "bigint" }),
    attempt: integer().notNull().default(0),
    commandId: text(),
    /** coppice.agent.v1.Command that was sent, as proto JSON without its secrets; settling needs it. */
    command: jsonb().$type<JsonValue>(),
    deadline: time(),
    /** coppice.control.v1.OperationProgress as proto JSON. */
    progress: jsonb().$type<JsonValue>(),
    /** When its work last became another; null before it was told any. */
    progressTime: time(),
    leavings: text().array().notNull().default([]),
    revision: bigint({ mode: "bigint" })
      .notNull()
      .default(sql`nextval('operation_revision')`),
    createTime: time().notNull().defaultNow(),
    startTime: time(),
    endTime: time(),
    /** Not before then: of a queued one its next try, of an indeterminate one the next look. */
    retryAt: time(),
    /** When somebody asked for its end. */
    cancelTime: time(),
    /** Of two operations with the same key only one may be under way; the second is refused. */
    exclusiveKey: text(),
  },
  (t) => [
    uniqueIndex("operation_request")
      .on(t.principalId, t.requestId)
      .where(sql`${t.requestId} is not null`),
    uniqueIndex("operation_revision_unique").on(t.revision),
    uniqueIndex("operation_exclusive")
      .on(t.exclusiveKey)
      .where(sql`${t.endTime} is null`),
    index("operation_host_active")
      .on(t.hostId, t.state)
      .where(sql`${t.endTime} is null`),
    index("operation_cluster").on(t.clusterId, t.id),
    index("operation_parent")
      .on(t.parentId, t.id)
      .where(sql`${t.parentId} is not null`),
    check("operation_after_sibling", sql`${t.afterId} is null or ${t.parentId} is not null`),
    check(
      "operation_state_known",
      sql`${t.state} in ('QUEUED', 'DISPATCHED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'CANCELLING', 'INDETERMINATE')`,
    ),
    check("operation_ended", sql`(${t.state} in ('SUCCEEDED', 'FAILED', 'CANCELLED')) = (${t.endTime} is not null)`),
    check("operation_failed_says_why", sql`${t.state} <> 'FAILED' or ${t.failure} is not null`),
    check("operation_fence_whole", sql`(${t.fenceIncarnation} is null) = (${t.fenceNumber} is null)`),
  ],
);

/** Tries of an operation, from 1. */
export const operationAttempt = pgTable(
  "operation_attempt",
  {
    operationId: text()
      .notNull()
      .references(() => operation.id, { onDelete: "cascade" }),
    number: integer().notNull(),
    startTime: time().notNull().defaultNow(),
    endTime: time(),
    /** coppice.common.v1.FailureDetail as proto JSON. */
    failure: jsonb().$type<JsonValue>(),
    settling: boolean().notNull().default(false),
  },
  (t) => [primaryKey({ columns: [t.operationId, t.number] })],
);

/** Leases: backups that an operation uses. A lease holds while the operation has not ended. */
export const operationBackup = pgTable(
  "operation_backup",
  {
    operationId: text()
      .notNull()
      .references(() => operation.id, { onDelete: "cascade" }),
    backupId: text()
      .notNull()
      .references(() => backup.id, { onDelete: "cascade" }),
  },
  (t) => [primaryKey({ columns: [t.operationId, t.backupId] }), index("operation_backup_backup").on(t.backupId)],
);

/** Log lines of an attempt, numbered by the agent. */
export const operationLog = pgTable(
  "operation_log",
  {
    operationId: text().notNull(),
    attempt: integer().notNull(),
    line: bigint({ mode: "bigint" }).notNull(),
    time: time().notNull(),
    text: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.operationId, t.attempt, t.line] }),
    foreignKey({ columns: [t.operationId], foreignColumns: [operation.id] }).onDelete("cascade"),
  ],
);
