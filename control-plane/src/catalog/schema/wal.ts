import type { JsonValue } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import { type AnyPgColumn, bigint, check, index, integer, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { cluster } from "./cluster.ts";
import { lsn, time } from "./column-types.ts";
import { host } from "./host.ts";
import { repository } from "./repository.ts";

const clusterId = () =>
  text()
    .notNull()
    .references(() => cluster.id, { onDelete: "cascade" });

const timeline = () => bigint({ mode: "number" }).notNull();

/** Microseconds since 1970: as fine as PostgreSQL counts. */
const microseconds = () => bigint({ mode: "bigint" });

/** An owner of WAL before the present one. */
export interface FormerOwner {
  readonly hostId: string;
  /** Null where it is not known how far it came. */
  readonly timeline: number | null;
  readonly lsn: string | null;
  readonly isDead: boolean;
}

/** An owner that was declared dead; the number is decimal. */
export interface DeadOwnerJson {
  readonly hostId: string;
  readonly endNumber: string;
}

/** WAL of clusters that is to be archived, and what its agent told last. One that is switched off has no row. */
export const walArchive = pgTable(
  "wal_archive",
  {
    clusterId: clusterId().primaryKey(),
    hostId: text()
      .notNull()
      .references(() => host.id, { onDelete: "restrict" }),
    repositoryId: text()
      .notNull()
      .references(() => repository.id, { onDelete: "restrict" }),
    systemIdentifier: text().notNull(),
    /** coppice.common.v1.WalSettings as proto JSON. */
    settings: jsonb().$type<JsonValue>().notNull(),
    version: integer().notNull().default(1),
    createTime: time().notNull().defaultNow(),
    reportTime: time(),
    /** When it was first told of in its present place. */
    beginTime: time(),
    /** Since when, by the server's clock, it was not told to hold all that the server wrote; null while it was. */
    behindTime: time(),
    timeline: bigint({ mode: "number" }),
    segmentBytes: bigint({ mode: "bigint" }),
    receivedLsn: lsn(),
    storedLsn: lsn(),
    serverLsn: lsn(),
    serverTime: time(),
    slotStatus: text().notNull().default(""),
    /** coppice.common.v1.FailureDetail as proto JSON; null while all is well. */
    trouble: jsonb().$type<JsonValue>(),
    /** coppice.common.v1.WalArchiver as proto JSON; null until it was told, and in mode stream. */
    archiver: jsonb().$type<JsonValue>(),
    /** Number of the grant by which the host's agent alone may write; it has no expiry. */
    grantNumber: bigint({ mode: "bigint" })
      .notNull()
      .default(sql`0`),
    grantTime: time().notNull().defaultNow(),
    /** Lowest timeline that the server may be on. */
    grantTimeline: timeline().default(0),
    /** To whom the grant moves once its owner has acknowledged the number; null while it is held. */
    nextHostId: text().references(() => host.id, { onDelete: "restrict" }),
    nextRepositoryId: text().references(() => repository.id, { onDelete: "restrict" }),
    nextSettings: jsonb().$type<JsonValue>(),
    nextEndNumber: bigint({ mode: "bigint" }),
    nextTime: time(),
    /** Who owned it before, and where it stopped; null where none did. */
    former: jsonb().$type<FormerOwner>(),
    /** Owners that were declared dead and have not acknowledged. */
    deadOwners: jsonb().$type<readonly DeadOwnerJson[]>().notNull().default([]),
    /** coppice.common.v1.WalSlot as proto JSON; null until it was told, and where none is used. */
    slot: jsonb().$type<JsonValue>(),
    /** Bytes in a second. */
    writtenRate: bigint({ mode: "bigint" }),
    storedRate: bigint({ mode: "bigint" }),
  },
  (t) => [
    index("wal_archive_host").on(t.hostId),
    index("wal_archive_repository").on(t.repositoryId),
    check(
      "wal_archive_next_whole",
      sql`num_nonnulls(${t.nextHostId}, ${t.nextRepositoryId}, ${t.nextSettings}, ${t.nextEndNumber}, ${t.nextTime}) in (0, 5)`,
    ),
  ],
);

/** A run of a server's WAL in a repository; `onDelete` is what it means to the repository's own row. */
const runColumns = (onDelete: "restrict" | "cascade") => ({
  clusterId: clusterId(),
  repositoryId: text()
    .notNull()
    .references(() => repository.id, { onDelete }),
  systemIdentifier: text().notNull(),
  timeline: timeline(),
  startLsn: lsn().notNull(),
  endLsn: lsn().notNull(),
});

const runRules = (table: string, t: Readonly<Record<keyof ReturnType<typeof runColumns>, AnyPgColumn>>) => [
  primaryKey({
    name: `${table}_pk`,
    columns: [t.clusterId, t.repositoryId, t.systemIdentifier, t.timeline, t.startLsn],
  }),
  check(`${table}_order`, sql`${t.startLsn} < ${t.endLsn} and ${t.timeline} > 0`),
  index(`${table}_repository`).on(t.repositoryId),
];

/** Runs of WAL without a hole: two of one timeline in one repository never touch. */
export const walExtent = pgTable("wal_extent", runColumns("restrict"), (t) => runRules("wal_extent", t));

/** What a verification found to be damaged or gone of what counts as stored, until a later one finds it sound. */
export const walLost = pgTable(
  "wal_lost",
  { ...runColumns("cascade"), foundTime: time().notNull().defaultNow() },
  (t) => runRules("wal_lost", t),
);

/**
 * What was deleted because nothing needs it, or is about to be: it counts for nothing, also when an agent tells of it
 * again, until a verification finds that it is there.
 */
export const walDeleted = pgTable("wal_deleted", runColumns("cascade"), (t) => runRules("wal_deleted", t));

/** Where WAL ended at a time. */
export const walAnchor = pgTable(
  "wal_anchor",
  {
    clusterId: clusterId(),
    systemIdentifier: text().notNull(),
    timeline: timeline(),
    timeUs: microseconds().notNull(),
    lsn: lsn().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clusterId, t.systemIdentifier, t.timeline, t.timeUs] }),
    index("wal_anchor_time").on(t.clusterId, t.systemIdentifier, t.timeUs),
  ],
);

/** Times of the commits and aborts in a run of WAL. */
export const walCommits = pgTable(
  "wal_commits",
  {
    clusterId: clusterId(),
    systemIdentifier: text().notNull(),
    timeline: timeline(),
    startLsn: lsn().notNull(),
    endLsn: lsn().notNull(),
    /** Null when there is none in it. */
    earliestUs: microseconds(),
    latestUs: microseconds(),
    reportTime: time().notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.clusterId, t.systemIdentifier, t.timeline, t.startLsn] }),
    check(
      "wal_commits_whole",
      sql`${t.startLsn} < ${t.endLsn} and (${t.earliestUs} is null) = (${t.latestUs} is null)`,
    ),
    index("wal_commits_report").on(t.clusterId, t.reportTime),
  ],
);

/** History files of timelines, as PostgreSQL writes them. */
export const walHistory = pgTable(
  "wal_history",
  {
    clusterId: clusterId(),
    systemIdentifier: text().notNull(),
    timeline: timeline(),
    content: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.clusterId, t.systemIdentifier, t.timeline] })],
);
