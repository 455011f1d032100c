import type { JsonValue } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import {
  type AnyPgColumn,
  bigint,
  boolean,
  check,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
} from "drizzle-orm/pg-core";
import { lsn, time } from "./column-types.ts";
import { cluster } from "./cluster.ts";
import { repository } from "./repository.ts";

/** What a backup is made of, as BackupKind spells it. */
export type BackupKindName = "DUMP" | "FULL" | "INCREMENTAL";

/** State of a copy, as CopyState spells it. */
export type CopyStateName = "STORED" | "DAMAGED" | "DELETING";

/** Backups whose manifest is stored. */
export const backup = pgTable(
  "backup",
  {
    id: text().primaryKey(),
    clusterId: text()
      .notNull()
      .references(() => cluster.id, { onDelete: "restrict" }),
    kind: text().$type<BackupKindName>().notNull(),
    complete: boolean().notNull(),
    /** No selection of databases was given: only such a backup counts as last good. */
    defaultDatabases: boolean().notNull(),
    startTime: time().notNull(),
    endTime: time().notNull(),
    createTime: time().notNull().defaultNow(),
    databaseBytes: bigint({ mode: "bigint" }).notNull(),
    storedBytes: bigint({ mode: "bigint" }).notNull(),
    serverVersionNum: integer().notNull(),
    operationId: text().notNull(),
    parentId: text().references((): AnyPgColumn => backup.id, { onDelete: "restrict" }),
    /** Of a physical backup: its server, where recovery begins, and where it is consistent. */
    systemIdentifier: text(),
    timeline: bigint({ mode: "number" }),
    startLsn: lsn(),
    stopLsn: lsn(),
    /** Whether the WAL in between is inside it. */
    walEmbedded: boolean(),
    /** coppice.repository.v1.BackupManifest as proto JSON. */
    manifest: jsonb().$type<JsonValue>().notNull(),
    /** RECOVER.txt. */
    recipe: text().notNull(),
    version: integer().notNull().default(1),
  },
  (t) => [
    check("backup_kind_known", sql`${t.kind} in ('DUMP', 'FULL', 'INCREMENTAL')`),
    check("backup_parent_of_incremental", sql`(${t.kind} = 'INCREMENTAL') = (${t.parentId} is not null)`),
    check(
      "backup_physical_whole",
      sql`num_nonnulls(${t.systemIdentifier}, ${t.timeline}, ${t.startLsn}, ${t.stopLsn}, ${t.walEmbedded}) = case when ${t.kind} = 'DUMP' then 0 else 5 end`,
    ),
    check("backup_wal_order", sql`${t.startLsn} <= ${t.stopLsn} and ${t.timeline} > 0`),
    check("backup_bytes", sql`${t.databaseBytes} >= 0 and ${t.storedBytes} >= 0`),
    index("backup_cluster_start").on(t.clusterId, t.startTime),
    index("backup_parent").on(t.parentId),
  ],
);

/** Copies of a backup, one in each repository that holds it. */
export const backupCopy = pgTable(
  "backup_copy",
  {
    backupId: text()
      .notNull()
      .references(() => backup.id, { onDelete: "cascade" }),
    repositoryId: text()
      .notNull()
      .references(() => repository.id, { onDelete: "restrict" }),
    folder: text().notNull(),
    state: text().$type<CopyStateName>().notNull(),
    manifestSha256: text().notNull(),
    /** When the stored bytes were last re-read and matched. */
    verifyTime: time(),
    problem: text().notNull().default(""),
    retentionReason: text().notNull().default(""),
    pinUntil: time(),
    pinReason: text(),
  },
  (t) => [
    primaryKey({ columns: [t.backupId, t.repositoryId] }),
    check("backup_copy_state_known", sql`${t.state} in ('STORED', 'DAMAGED', 'DELETING')`),
    check("backup_copy_digest_form", sql`${t.manifestSha256} ~ '^[0-9a-f]{64}$'`),
    index("backup_copy_repository").on(t.repositoryId),
  ],
);
