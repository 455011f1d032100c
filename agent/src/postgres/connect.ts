import { type Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import { Client, type ClientConfig } from "pg";
import { formatAddress, type ResolvedEndpoint } from "./endpoint.ts";
import { hasSqlState, isTlsTrouble, notAnswered, toPostgresFailure } from "./postgres-failure.ts";
import { planTlsAttempts, type TlsAttempt } from "./tls-attempts.ts";

/** How a connection is opened. */
export interface ConnectOptions {
  /** The endpoint's maintenance database when left out. */
  readonly database?: string;
  /** The connection is closed, and running statements fail, when it is aborted. */
  readonly signal: AbortSignal;
  /** How long to wait for the connection; 10 s when left out. */
  readonly connectTimeoutMs?: number;
  /** How long a statement may wait for a lock; 1 min when left out. */
  readonly lockTimeoutMs?: number;
  /**
   * After how long without an answer to a statement the server counts as hung, and the connection is closed; a statement
   * takes as long as it takes when left out.
   */
  readonly answerMs?: number | undefined;
}

/** How one statement is run. */
export interface StatementOptions {
  /** Instead of the connection's, where it has one: for what may take a sound server minutes. */
  readonly answerMs?: number;
}

/** An open connection with search_path pg_catalog. */
export interface PostgresConnection extends AsyncDisposable {
  readonly endpoint: ResolvedEndpoint;
  readonly database: string;
  /** Runs one statement; its rows as `pg` parses them (int8 and numeric are strings). Fails with a Failure. */
  query<Row extends object>(text: string, values?: readonly unknown[], options?: StatementOptions): Promise<Row[]>;
  /** The one row of a statement that gives exactly one. */
  queryOne<Row extends object>(text: string, values?: readonly unknown[], options?: StatementOptions): Promise<Row>;
}

/** What a cancel request has to name. */
export interface BackendKey {
  readonly processId: number;
  readonly secret: number;
}

/** How a session begins; see ConnectOptions. */
export interface LoginOptions {
  readonly database: string;
  /** A physical replication connection, which takes commands of the replication protocol alone. */
  readonly isReplication?: boolean;
  readonly signal: AbortSignal;
  readonly connectTimeoutMs?: number;
}

/** A client that is logged in. */
export interface Login {
  readonly client: Client;
  readonly key: BackendKey;
}

function clientConfig(endpoint: ResolvedEndpoint, ssl: TlsAttempt, options: LoginOptions): ClientConfig {
  const { database, isReplication = false, connectTimeoutMs = 10_000 } = options;
  const replicationHint = `give a password, or a line for the database ${database} in the password file`;
  return {
    host: endpoint.hostAddress ?? endpoint.host,
    port: endpoint.port,
    user: endpoint.user,
    database,
    // A function, because `pg` would look for a password file of its own where there is none.
    password: () =>
      endpoint.passwordFor(database) ??
      fail("PASSWORD_MISSING", `the server at ${formatAddress(endpoint)} asks for a password and none is known`, {
        hint:
          (endpoint.passwordFileProblem && `${endpoint.passwordFileProblem}; mend it, or give a password`) ??
          (isReplication ? replicationHint : undefined),
      }),
    // `pg` writes into it, and an attempt may be made again for another database.
    ssl: ssl && { ...ssl },
    sslnegotiation: "postgres",
    connectionTimeoutMillis: connectTimeoutMs,
    application_name: "coppice",
    keepAlive: true,
    // Of the system's own two hours nobody hears that the other host has lost its power.
    keepAliveInitialDelayMillis: 30_000,
    ...(isReplication ? { replication: "true" } : {}),
  };
}

const closeMs = 1000;
/** What a sound server answers at once is answered within that, however busy it is. */
export const defaultAnswerMs = 60_000;
/** What looks at many files or rows, or waits for a standby to have it, may take that. */
export const slowAnswer: StatementOptions = { answerMs: 1_800_000 };

async function tryToConnect(config: ClientConfig, signal: AbortSignal): Promise<Login> {
  const client = new Client(config);
  let key: BackendKey = { processId: 0, secret: 0 };
  client.connection.once("backendKeyData", (message: { processID: number; secretKey: number }) => {
    key = { processId: message.processID, secret: message.secretKey };
  });
  // Trouble of an idle connection shows itself to the next statement; without a listener it would end the process.
  client.on("error", () => {});
  try {
    await raceSignal(client.connect(), signal);
    return { client, key };
  } catch (error) {
    client.end().catch(() => {});
    throw error;
  }
}

/** What a role or a database may have been given must not break work that takes hours. */
function sessionSettings(lockTimeoutMs: number): string {
  return `set search_path = pg_catalog; set lock_timeout = ${Math.round(lockTimeoutMs)}; set statement_timeout = 0;
    set idle_session_timeout = 0; set idle_in_transaction_session_timeout = 0; set default_transaction_read_only = off;
    set client_connection_check_interval = '2s'`;
}

/** Whether libpq would make the next try of `prefer` or `allow`: also when pg_hba.conf refuses this kind of line. */
function isWorthAnotherTry(error: unknown): boolean {
  return isTlsTrouble(error) || hasSqlState(error, "invalidAuthorization");
}

/**
 * Logs in as the endpoint says, by the tries of its sslmode. Fails with the driver's own errors, which
 * `toPostgresFailure` explains, with TLS_REFUSED, PASSWORD_MISSING or the signal's reason.
 */
export async function logIn(endpoint: ResolvedEndpoint, options: LoginOptions): Promise<Login> {
  const attempts = await planTlsAttempts(endpoint);
  for (const [index, attempt] of attempts.entries()) {
    try {
      return await tryToConnect(clientConfig(endpoint, attempt, options), options.signal);
    } catch (error) {
      if (index + 1 === attempts.length || !isWorthAnotherTry(error)) throw error;
    }
  }
  throw new Error("an sslmode without any attempt");
}

/** Ends a session within a second. With a statement running, `pg` closes the line at once, and the server ends the statement. */
export async function logOut(client: Client): Promise<void> {
  // A server that stands still never closes its side; what was asked of the connection is answered by then.
  const timer = setTimeout(() => client.connection.stream.destroy(), closeMs);
  await client.end().catch(() => {});
  clearTimeout(timer);
}

/**
 * Opens a connection as the endpoint says. Fails with CLUSTER_UNREACHABLE, PASSWORD_REFUSED, PASSWORD_MISSING,
 * LOGIN_REFUSED, ROLE_MISSING, TLS_REFUSED, DATABASE_NOT_FOUND, PRIVILEGE_MISSING, or the signal's reason.
 */
export async function openConnection(endpoint: ResolvedEndpoint, options: ConnectOptions): Promise<PostgresConnection> {
  const { signal, lockTimeoutMs = 60_000, answerMs } = options;
  const database = options.database ?? endpoint.maintenanceDatabase;
  signal.throwIfAborted();

  const { client } = await logIn(endpoint, { ...options, database }).catch((error: unknown) => {
    throw signal.aborted ? signal.reason : toPostgresFailure(error, endpoint);
  });
  const close = () => logOut(client);
  const onAbort = () => void close();
  signal.addEventListener("abort", onAbort, { once: true });

  let hung: Failure | undefined;
  function closeAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      hung = notAnswered(endpoint, ms);
      void close();
    }, ms);
  }

  async function query<Row extends object>(
    text: string,
    values?: readonly unknown[],
    options: StatementOptions = {},
  ): Promise<Row[]> {
    signal.throwIfAborted();
    if (hung) throw hung;
    const timer = answerMs === undefined ? undefined : closeAfter(options.answerMs ?? answerMs);
    try {
      const result = await raceSignal(client.query<Row>({ text, ...(values ? { values: [...values] } : {}) }), signal);
      return result.rows;
    } catch (error) {
      throw signal.aborted || isFailure(error) ? error : (hung ?? toPostgresFailure(error, endpoint));
    } finally {
      clearTimeout(timer);
    }
  }

  async function queryOne<Row extends object>(
    text: string,
    values?: readonly unknown[],
    options?: StatementOptions,
  ): Promise<Row> {
    const rows = await query<Row>(text, values, options);
    const [row] = rows;
    if (!row || rows.length !== 1) throw new Error(`a statement that gives one row gave ${rows.length}`);
    return row;
  }

  async function dispose(): Promise<void> {
    signal.removeEventListener("abort", onAbort);
    await close();
  }

  const connection = { endpoint, database, query, queryOne, [Symbol.asyncDispose]: dispose };
  try {
    // Not as start-up options, which poolers refuse. The interval lets the server notice a client that is gone.
    await query(sessionSettings(lockTimeoutMs));
    return connection;
  } catch (error) {
    await dispose();
    throw error;
  }
}

/**
 * Opens a connection for looks and for what else a sound server does at once: one that leaves a statement open for a
 * minute counts as hung. Fails as `openConnection` does.
 */
export function openLook(
  endpoint: ResolvedEndpoint,
  { answerMs = defaultAnswerMs, ...options }: ConnectOptions,
): Promise<PostgresConnection> {
  // A lock that somebody holds is told as such.
  return openConnection(endpoint, { lockTimeoutMs: answerMs / 2, ...options, answerMs });
}
