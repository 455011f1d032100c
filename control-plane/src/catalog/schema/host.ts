import type { JsonValue } from "@bufbuild/protobuf";
import { sql } from "drizzle-orm";
import { bigint, boolean, check, index, integer, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { bytea, time } from "./column-types.ts";
import { isName, resourceColumns } from "./resource.ts";

/** State of a host's agent, as HostState spells it. */
export type HostStateName = "PENDING" | "CONNECTED" | "UNKNOWN" | "STOPPED";

/** An entry of desired state that was given up; the revision is decimal. */
export interface EndedEntryJson {
  readonly id: string;
  readonly revision: string;
}

/** An archive that goes on unasked; times as ISO 8601 writes them. */
export interface StrayArchiveJson {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly firstTime: string;
  readonly lastTime: string;
  /** How, as coppice.common.v1.WalSettings in proto JSON; absent where the agent did not say. */
  readonly settings?: JsonValue;
  /** It has ended, and this is what its server still keeps WAL by; absent where it goes on. */
  readonly leftover?: LeftoverJson;
}

/** What an archive that has ended has on its server. */
export interface LeftoverJson {
  readonly systemIdentifier: string;
  readonly slot: string;
  readonly isCommanded: boolean;
  /** Why it is there still. */
  readonly problem: string;
}

/** Machines with an agent. */
export const host = pgTable(
  "host",
  {
    ...resourceColumns("host"),
    state: text().$type<HostStateName>().notNull().default("PENDING"),
    stateTime: time().notNull().defaultNow(),
    agentVersion: text().notNull().default(""),
    capabilities: text().array().notNull().default([]),
    machineName: text().notNull().default(""),
    bootId: text(),
    sessionEpoch: bigint({ mode: "bigint" })
      .notNull()
      .default(sql`0`),
    lastSeenTime: time(),
    /** Of what its agent is to carry out with or without us; grows with every change. */
    desiredRevision: bigint({ mode: "bigint" })
      .notNull()
      .default(sql`0`),
    /** What its agent was told, or is to be told, to give up. */
    endedEntries: jsonb().$type<readonly EndedEntryJson[]>().notNull().default([]),
    /** WAL that its agent archives, and that the catalog does not want, and what it could not take from servers yet. */
    strayArchives: jsonb().$type<readonly StrayArchiveJson[]>().notNull().default([]),
  },
  (t) => [
    check("host_name_form", isName(t.name)),
    check("host_state_known", sql`${t.state} in ('PENDING', 'CONNECTED', 'UNKNOWN', 'STOPPED')`),
  ],
);

/** Client certificates that were given to agents, by the SHA-256 of their DER form. */
export const certificate = pgTable(
  "certificate",
  {
    fingerprint: text().primaryKey(),
    hostId: text()
      .notNull()
      .references(() => host.id, { onDelete: "cascade" }),
    serial: text().notNull(),
    notBefore: time().notNull(),
    notAfter: time().notNull(),
    revokeTime: time(),
  },
  (t) => [index("certificate_host").on(t.hostId)],
);

/** Single-use tokens for an agent's first certificate. */
export const enrolment = pgTable(
  "enrolment",
  {
    id: text().primaryKey(),
    hostId: text()
      .notNull()
      .references(() => host.id, { onDelete: "cascade" }),
    tokenHash: bytea().notNull().unique("enrolment_token_hash"),
    createTime: time().notNull().defaultNow(),
    expireTime: time().notNull(),
    useTime: time(),
  },
  (t) => [index("enrolment_host").on(t.hostId)],
);

/** PostgreSQL clusters that an agent found on its host, protected or not. */
export const foundCluster = pgTable(
  "found_cluster",
  {
    hostId: text()
      .notNull()
      .references(() => host.id, { onDelete: "cascade" }),
    dataDirectory: text().notNull(),
    port: integer().notNull(),
    socketDirectory: text().notNull(),
    major: integer().notNull(),
    owner: text().notNull(),
    running: boolean().notNull(),
    /** Why that is unknown; empty when it is known. */
    runningUnknown: text().notNull().default(""),
    systemIdentifier: text().notNull(),
    debianName: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.hostId, t.dataDirectory, t.port] })],
);
