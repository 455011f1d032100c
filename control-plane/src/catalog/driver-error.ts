import { Failure } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";

/** What a broken constraint means to whoever asked. The message never repeats the row's values. */
const meanings: Readonly<Record<string, readonly [Reason, string]>> = {
  host_name: ["NAME_TAKEN", "another host has that name"],
  cluster_name: ["NAME_TAKEN", "another cluster has that name"],
  repository_name: ["NAME_TAKEN", "another repository has that name"],
  token_name: ["NAME_TAKEN", "another token has that name"],
  repository_location_key: ["REPOSITORY_EXISTS", "a repository at that place is registered already"],
  operation_exclusive: ["OPERATION_CONFLICT", "another operation that has not ended works on the same target"],
  cluster_instance_host_id_host_id_fk: ["HOST_IN_USE", "the host has clusters"],
  repository_home_host_id_host_id_fk: ["HOST_IN_USE", "the host has repositories"],
  backup_cluster_id_cluster_id_fk: ["CLUSTER_IN_USE", "the cluster has backups in the catalog"],
  wal_archive_host_id_host_id_fk: ["HOST_IN_USE", "the host archives WAL"],
  wal_archive_next_host_id_host_id_fk: ["HOST_IN_USE", "the host is to archive WAL"],
  wal_archive_repository_id_repository_id_fk: ["REPOSITORY_IN_USE", "WAL is archived into the repository"],
  wal_archive_next_repository_id_repository_id_fk: ["REPOSITORY_IN_USE", "WAL is to be archived into the repository"],
  wal_extent_repository_id_repository_id_fk: ["REPOSITORY_IN_USE", "the repository holds archived WAL"],
  backup_copy_repository_id_repository_id_fk: ["REPOSITORY_IN_USE", "the repository has backups in the catalog"],
};

/** Codes of the driver and of the network for a server that is away, and of a server that comes or goes. */
const unreachable = new Set([
  "CONNECT_TIMEOUT",
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "EAI_AGAIN",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
  "ENOTFOUND",
  "EPIPE",
  "ETIMEDOUT",
  "53300",
  "57P01",
  "57P02",
  "57P03",
]);

/** By its statement_timeout, as a rule. */
const queryCanceled = "57014";
const findWhatHolds =
  "a lock that another session holds is in its way, or the server is overloaded; in its database: select pid, state, query from pg_stat_activity where pid in (select unnest(pg_blocking_pids(pid)) from pg_stat_activity)";

/**
 * The failure that a database driver's error stands for; undefined for errors that are none, and for those that no
 * caller can do anything about. Drivers' messages hold statements and values, so they stay in the cause.
 */
export function catalogFailure(error: unknown): Failure | undefined {
  if (error instanceof Failure) return error;
  const driverError = findDriverError(error);
  if (driverError === undefined) return undefined;
  const { code, constraint } = driverError;
  const meaning = constraint === undefined ? undefined : meanings[constraint];
  if (meaning !== undefined) return new Failure(meaning[0], meaning[1], { cause: error });
  if (code === queryCanceled) {
    const message = "the catalog's database did not get done in time with what it was asked";
    return new Failure("CATALOG_UNREACHABLE", message, { hint: findWhatHolds, cause: error });
  }
  if (unreachable.has(code) || code.startsWith("08")) {
    return new Failure("CATALOG_UNREACHABLE", "the catalog's database does not answer", { cause: error });
  }
  return undefined;
}

/**
 * Whether the database refused the values themselves (classes 22 and 23 of SQLSTATE): the same statement with the same
 * values will be refused again. Everything else that a driver reports may be gone the next time.
 */
export function isRefusedData(error: unknown): boolean {
  const code = findDriverError(error)?.code ?? "";
  return /^2[23][0-9A-Z]{3}$/.test(code);
}

/** Whether the error comes from the driver or the way to the database. */
export function isDriverFailure(error: unknown): boolean {
  return findDriverError(error) !== undefined;
}

/**
 * Whether a query failed because its connection ended. Not so of one that we end ourselves: of that the driver knows
 * that nothing can be sent any more.
 */
export function isLostConnection(error: unknown): boolean {
  const driverError = findDriverError(error);
  return driverError?.isOfConnection === true && driverError.code !== "CONNECTION_DESTROYED";
}

interface DriverError {
  readonly code: string;
  /** Whether it is of the connection that a query was on; the server's own and those of files are not. */
  readonly isOfConnection: boolean;
  readonly constraint: string | undefined;
}

function findDriverError(error: unknown, depth = 0): DriverError | undefined {
  if (!(error instanceof Error) || depth > 5) return undefined;
  // drizzle wraps what the driver threw; only PostgresError and the driver's own network errors carry these.
  const isDriver = error.name === "PostgresError" || "errno" in error;
  if (isDriver && "code" in error && typeof error.code === "string") {
    const constraint = "constraint_name" in error ? error.constraint_name : undefined;
    return {
      code: error.code,
      isOfConnection: error.name !== "PostgresError" && "query" in error,
      constraint: typeof constraint === "string" ? constraint : undefined,
    };
  }
  return findDriverError(error.cause, depth + 1);
}
