import { formatDuration } from "@coppice/proto/kit/duration";
import { Failure, isFailure, toFailure } from "@coppice/proto/kit/failure";
import { DatabaseError } from "pg";
import { type ResolvedEndpoint, formatAddress, isSocket } from "./endpoint.ts";

/** SQLSTATE codes by which the agent tells what happened. https://www.postgresql.org/docs/current/errcodes-appendix.html */
const sqlState = {
  connectionForbidden: "55000",
  diskFull: "53100",
  duplicateDatabase: "42P04",
  invalidAuthorization: "28000",
  invalidCatalog: "3D000",
  invalidPassword: "28P01",
  objectInUse: "55006",
  privilege: "42501",
  readOnly: "25006",
  undefinedObject: "42704",
} as const;

/** Whether PostgreSQL answered with that error. */
export function hasSqlState(error: unknown, state: keyof typeof sqlState): boolean {
  if (isFailure(error)) return error.metadata.sqlstate === sqlState[state];
  return error instanceof DatabaseError && error.code === sqlState[state];
}

/** What it means that a server leaves open for so long what a sound one answers at once. */
export function notAnswered(endpoint: ResolvedEndpoint, ms: number): Failure {
  return new Failure(
    "CLUSTER_UNREACHABLE",
    `the server at ${formatAddress(endpoint)} has not answered for ${formatDuration(ms)}`,
    {
      hint: "see in the server's log and on its host whether its processes, its disks and the network to it hang; pg_stat_activity says what a session of coppice waits for",
    },
  );
}

function loginRefused(error: DatabaseError, endpoint: ResolvedEndpoint, metadata: Record<string, string>): Failure {
  const { user } = endpoint;
  const where = formatAddress(endpoint);
  if (error.routine === "InitializeSessionUserId")
    return new Failure(
      "ROLE_MISSING",
      `the role ${JSON.stringify(user)} may not log in at ${where}: ${error.message}`,
      {
        hint: "create the role with LOGIN, or name another one with `coppice cluster update CLUSTER --instance HOST --user ROLE`",
        metadata,
      },
    );
  if (error.routine === "auth_failed") {
    const fix = isSocket(endpoint)
      ? "with peer the operating system's user counts: map it to the role in pg_ident.conf, or give a password"
      : undefined;
    return new Failure("LOGIN_REFUSED", `the server at ${where} refused the role ${JSON.stringify(user)}`, {
      hint: fix,
      metadata,
    });
  }
  return new Failure(
    "LOGIN_REFUSED",
    `pg_hba.conf has no line that lets the role ${JSON.stringify(user)} in at ${where}`,
    {
      metadata,
    },
  );
}

function fromServer(error: DatabaseError, endpoint: ResolvedEndpoint): Failure {
  const metadata: Record<string, string> = error.code ? { sqlstate: error.code } : {};
  const where = formatAddress(endpoint);
  switch (error.code) {
    case sqlState.invalidPassword:
      return new Failure(
        "PASSWORD_REFUSED",
        `the server at ${where} refused the password of ${JSON.stringify(endpoint.user)}`,
        {
          metadata,
        },
      );
    case sqlState.invalidAuthorization:
      return loginRefused(error, endpoint, metadata);
    case sqlState.invalidCatalog:
      return new Failure("DATABASE_NOT_FOUND", error.message, { metadata });
    case sqlState.privilege:
      return new Failure("PRIVILEGE_MISSING", error.message, { metadata });
    case sqlState.diskFull:
      return new Failure("SPACE_MISSING", `the server at ${where}: ${error.message}`, { metadata });
    case sqlState.duplicateDatabase:
      return new Failure("DATABASE_EXISTS", error.message, { metadata });
    case sqlState.objectInUse:
      return new Failure("DATABASE_IN_USE", [error.message, error.detail].filter(Boolean).join(": "), { metadata });
    case sqlState.readOnly:
      return new Failure("CLUSTER_READ_ONLY", error.message, { metadata });
    default:
      break;
  }
  // Class 53: too many connections; 57P: starting, stopping, or told to by an administrator; 08: the line.
  if (/^(53|57P|08)/.test(error.code ?? ""))
    return new Failure("CLUSTER_UNREACHABLE", `the server at ${where}: ${error.message}`, { metadata });
  return new Failure("POSTGRES_REFUSED", `the server at ${where}: ${error.message}`, { metadata });
}

const tlsCodes = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH|EPROTO)/;

/** Whether no TLS connection came about that the sslmode would take, as against any other trouble. */
export function isTlsTrouble(error: unknown): boolean {
  if (isFailure(error)) return error.reason === "TLS_REFUSED";
  if (!(error instanceof Error)) return false;
  if ("code" in error && typeof error.code === "string" && tlsCodes.test(error.code)) return true;
  return error.message === "The server does not support SSL connections";
}

/** Whether the error is the network's, or `pg`'s own word for a line that broke or did not come about in time. */
function isLineTrouble(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && typeof error.code === "string" && /^E[A-Z_]+$/.test(error.code)) return true;
  return error.message === "timeout expired" || error.message.startsWith("Connection terminated");
}

/**
 * What an error of `pg` means, with the server named; never the statement's text. The driver's error is not kept as the
 * cause where it could hold values of a row.
 */
export function toPostgresFailure(error: unknown, endpoint: ResolvedEndpoint): Failure {
  if (isFailure(error)) return error;
  if (error instanceof DatabaseError) return fromServer(error, endpoint);
  const where = formatAddress(endpoint);
  const message = error instanceof Error ? error.message : "the connection broke";
  if (isTlsTrouble(error))
    return new Failure(
      "TLS_REFUSED",
      `no TLS connection as sslmode ${endpoint.sslMode} wants it to ${where}: ${message}`,
      {
        cause: error,
      },
    );
  // A mistake of our own must not look like trouble with the network.
  if (!isLineTrouble(error)) return toFailure(error);
  return new Failure("CLUSTER_UNREACHABLE", `no connection to ${where}: ${message}`, { cause: error });
}
