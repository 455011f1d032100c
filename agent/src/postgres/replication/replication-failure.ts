import { Failure, type FailureOptions, isFailure } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import { DatabaseError } from "pg";
import { formatAddress, isSocket, type ResolvedEndpoint } from "../endpoint.ts";
import { toPostgresFailure } from "../postgres-failure.ts";
import { quoteIdentifier } from "../quote.ts";

/** What was asked when the server refused: the same code means other things elsewhere. */
export type Asked =
  | "login"
  | "command"
  | "slot"
  | "stream"
  | "stream-of-empty-slot"
  | "backup"
  | "incremental"
  | "manifest";

const sqlState = {
  configurationLimit: "53400",
  duplicateObject: "42710",
  featureNotSupported: "0A000",
  invalidAuthorization: "28000",
  invalidParameter: "22023",
  objectInUse: "55006",
  prerequisite: "55000",
  privilege: "42501",
  syntax: "42601",
  tooManyConnections: "53300",
  undefinedFile: "58P01",
  undefinedObject: "42704",
} as const;

/** The line that is missing, for the address that the server sees when it names one. */
function hbaLine(error: DatabaseError, endpoint: ResolvedEndpoint): string {
  const role = quoteIdentifier(endpoint.user);
  if (isSocket(endpoint)) return `local replication ${role} peer`;
  const address = /"((?:\d{1,3}\.){3}\d{1,3}|[0-9a-f:]*:[0-9a-f:]+)(?:%\w+)?"/i.exec(error.message)?.[1];
  const network = address ? `${address}/${address.includes(":") ? 128 : 32}` : "ADDRESS";
  const kind = ["disable", "allow", "prefer"].includes(endpoint.sslMode) ? "host" : "hostssl";
  return `${kind} replication ${role} ${network} scram-sha-256`;
}

function atLogin(error: DatabaseError, endpoint: ResolvedEndpoint): [Reason, string, string] | undefined {
  const role = quoteIdentifier(endpoint.user);
  if (error.code === sqlState.invalidAuthorization && error.routine === "ClientAuthentication")
    return [
      "REPLICATION_REFUSED",
      `pg_hba.conf has no line that lets the role ${role} in for replication`,
      `put the line \`${hbaLine(error, endpoint)}\` into pg_hba.conf ("all" as the database does not stand for replication) and run SELECT pg_reload_conf()`,
    ];
  if (error.code === sqlState.privilege)
    return [
      "REPLICATION_REFUSED",
      `the role ${role} may not open replication connections: ${error.message}`,
      `run ALTER ROLE ${role} REPLICATION`,
    ];
  // The name of a setting is never translated.
  if (error.code === sqlState.tooManyConnections && error.message.includes("max_wal_senders"))
    return [
      "SENDERS_EXHAUSTED",
      error.message,
      "end a replication connection that is not needed (pg_stat_replication lists them), or run ALTER SYSTEM SET max_wal_senders = 20 and restart the server; 0 needs wal_level = replica too",
    ];
  return undefined;
}

function slotInvalidated(error: DatabaseError, slot: string): [Reason, string, string] {
  return [
    "SLOT_INVALIDATED",
    said(error),
    `the slot ${slot} is made anew by itself; where WAL is gone by then, take a full backup at once; raise max_slot_wal_keep_size, and from 18 on set idle_replication_slot_timeout to 0, so that a slot lasts longer`,
  ];
}

function atSlot(error: DatabaseError, slot: string): [Reason, string, string] | undefined {
  switch (error.code) {
    case sqlState.undefinedObject:
      return [
        "SLOT_MISSING",
        error.message,
        `make it with SELECT pg_create_physical_replication_slot('${slot}', true); WAL that is gone by then is a gap`,
      ];
    case sqlState.objectInUse:
      return [
        "SLOT_IN_USE",
        said(error),
        `one receiver uses a slot; see who with SELECT active_pid FROM pg_replication_slots WHERE slot_name = '${slot}', and end it with pg_terminate_backend`,
      ];
    case sqlState.prerequisite:
      return slotInvalidated(error, slot);
    case sqlState.duplicateObject:
      return ["SLOT_EXISTS", error.message, `use it, or drop it with SELECT pg_drop_replication_slot('${slot}')`];
    case sqlState.configurationLimit:
      return [
        "SLOTS_EXHAUSTED",
        error.message,
        "drop a slot that nobody needs (pg_replication_slots lists them), or run ALTER SYSTEM SET max_replication_slots = 20 and restart the server",
      ];
    default:
      return undefined;
  }
}

function explain(error: DatabaseError, endpoint: ResolvedEndpoint, asked: Asked, slot: string) {
  if (asked === "login") return atLogin(error, endpoint);
  // Whatever is wrong with the manifest, or with a server too old for it, a full backup is the way on.
  if (asked === "manifest" && !/^(08|53|57P|42501)/.test(error.code ?? ""))
    return ["INCREMENTAL_REFUSED", said(error)] as const;
  if (asked === "incremental" && error.code === sqlState.prerequisite)
    return ["INCREMENTAL_REFUSED", said(error)] as const;
  if (asked === "stream" && error.code === sqlState.undefinedFile)
    return [
      "WAL_REMOVED",
      error.message,
      "the WAL from there on is a gap: take a full backup at once, and raise max_slot_wal_keep_size so that the slot keeps WAL for longer",
    ] as const;
  // Before 18 a slot that was given up is accepted, and has no position any more.
  if (asked === "stream-of-empty-slot" && error.code === sqlState.undefinedFile) return slotInvalidated(error, slot);
  return slot ? atSlot(error, slot) : undefined;
}

function said(error: DatabaseError): string {
  return [error.message, error.detail].filter(Boolean).join(": ");
}

/**
 * What an error of a replication connection means: the reasons of its own, else those of any connection. `slot` is the
 * name of the slot that was asked for, if one was.
 */
export function toReplicationFailure(error: unknown, endpoint: ResolvedEndpoint, asked: Asked, slot = ""): Failure {
  if (isFailure(error)) return error;
  if (!(error instanceof DatabaseError)) return toPostgresFailure(error, endpoint);
  const explained = explain(error, endpoint, asked, slot);
  if (!explained) return toPostgresFailure(error, endpoint);
  const [reason, message, hint] = explained;
  const options: FailureOptions = { hint, metadata: error.code ? { sqlstate: error.code } : {} };
  return new Failure(reason, `the server at ${formatAddress(endpoint)}: ${message}`, options);
}

/** Whether the server refused the compression that was asked of it: it was built without the library. */
export function isCompressionRefusal(error: DatabaseError): boolean {
  const { syntax, featureNotSupported, invalidParameter } = sqlState;
  return [syntax, featureNotSupported, invalidParameter].some((code) => code === error.code);
}
