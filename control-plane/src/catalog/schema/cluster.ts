import { sql } from "drizzle-orm";
import { bigint, boolean, check, index, integer, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import type { JsonValue } from "@bufbuild/protobuf";
import { time } from "./column-types.ts";
import { host } from "./host.ts";
import { isName, resourceColumns } from "./resource.ts";
import { secret } from "./secret.ts";

/** What a server does in its cluster, as InstanceRole spells it. */
export type InstanceRoleName = "UNSPECIFIED" | "PRIMARY" | "STANDBY";

/** Protected PostgreSQL clusters. */
export const cluster = pgTable("cluster", { ...resourceColumns("cluster") }, (t) => [
  check("cluster_name_form", isName(t.name)),
]);

/** Servers of a cluster. */
export const clusterInstance = pgTable(
  "cluster_instance",
  {
    id: text().primaryKey(),
    clusterId: text()
      .notNull()
      .references(() => cluster.id, { onDelete: "cascade" }),
    hostId: text()
      .notNull()
      .references(() => host.id, { onDelete: "restrict" }),
    /** coppice.common.v1.Endpoint as proto JSON. */
    endpoint: jsonb().$type<JsonValue>().notNull(),
    role: text().$type<InstanceRoleName>().notNull().default("UNSPECIFIED"),
    dataDirectory: text().notNull().default(""),
    passwordSecretId: text().references(() => secret.id, { onDelete: "restrict" }),
    /** Whether the last attempt reached it; null before the first. */
    reachable: boolean(),
    reachableTime: time(),
    unreachableSince: time(),
    problem: text().notNull().default(""),
  },
  (t) => [
    check("cluster_instance_unreachable_since", sql`(${t.reachable} is false) = (${t.unreachableSince} is not null)`),
    check("cluster_instance_role_known", sql`${t.role} in ('UNSPECIFIED', 'PRIMARY', 'STANDBY')`),
    index("cluster_instance_cluster").on(t.clusterId),
    index("cluster_instance_host").on(t.hostId),
  ],
);

/** System identifiers that a cluster has had: one for each initdb or pg_upgrade. */
export const clusterIncarnation = pgTable(
  "cluster_incarnation",
  {
    clusterId: text()
      .notNull()
      .references(() => cluster.id, { onDelete: "cascade" }),
    systemIdentifier: text().notNull(),
    major: integer().notNull(),
    serverVersionNum: integer().notNull(),
    firstSeenTime: time().notNull().defaultNow(),
    /** The one that was seen last is the present one. */
    lastSeenTime: time().notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.clusterId, t.systemIdentifier, t.major] })],
);

/** Databases that a cluster had at its last check or backup. */
export const clusterDatabase = pgTable(
  "cluster_database",
  {
    clusterId: text()
      .notNull()
      .references(() => cluster.id, { onDelete: "cascade" }),
    name: text().notNull(),
    sizeBytes: bigint({ mode: "bigint" }),
    allowConnections: boolean().notNull(),
  },
  (t) => [primaryKey({ columns: [t.clusterId, t.name] })],
);
