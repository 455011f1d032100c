import type { DatabaseProperties } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { raceSignal } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { PostgresConnection } from "../postgres/connect.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { admissionStatement } from "./database-statements.ts";

/** A staged database and the name it gets. */
export interface Swap {
  readonly staged: string;
  readonly target: string;
  /** Name that the present database of the target's name gets; undefined when there is none. */
  readonly keptAs: string | undefined;
  /** Of the staged database: its connection limit and template mark come into force with the swap. */
  readonly properties: DatabaseProperties;
}

const pauseMs = 50;

/** Ends the sessions of the databases again and again until stopped: new ones may have come in before the lock. */
async function endSessions(
  connection: PostgresConnection,
  databases: readonly string[],
  stop: AbortSignal,
): Promise<void> {
  while (!stop.aborted) {
    await connection.query(
      `select pg_terminate_backend(a.pid) from pg_stat_activity a join pg_database d on d.oid = a.datid
       where d.datname = any($1) and a.backend_type in ('client backend', 'parallel worker')`,
      [databases],
    );
    await sleep(pauseMs, stop).catch(() => {});
  }
}

/**
 * Puts a staged database into the place of another in one transaction; until it commits nothing at all has changed, so
 * that an agent, or a server, that dies meanwhile leaves the original as it was, open and under its name. RENAME locks
 * the database against new sessions, then waits up to 5 s for the present ones to be gone: a second connection ends
 * them meanwhile. (CountOtherDBBackends in PostgreSQL's procarray.c.) An abort counts until COMMIT is sent: what is
 * thrown is the signal's reason, and the server rolls back when the connection is closed; afterwards it counts no more.
 * Fails with DATABASE_IN_USE when sessions remain, DATABASE_EXISTS, or as connections do.
 */
export async function swapDatabase(
  renaming: PostgresConnection,
  ending: PostgresConnection,
  { staged, target, keptAs, properties }: Swap,
  signal: AbortSignal,
): Promise<void> {
  const statements = [
    "BEGIN",
    ...(keptAs === undefined ? [] : [`ALTER DATABASE ${quoteIdentifier(target)} RENAME TO ${quoteIdentifier(keptAs)}`]),
    `ALTER DATABASE ${quoteIdentifier(staged)} RENAME TO ${quoteIdentifier(target)}`,
    admissionStatement(target, properties),
  ];
  const stop = new AbortController();
  const ended = endSessions(ending, keptAs === undefined ? [staged] : [staged, target], stop.signal);
  // What went wrong there shows as sessions that remain.
  ended.catch(() => {});
  try {
    for (const statement of statements) await raceSignal(renaming.query(statement), signal);
    signal.throwIfAborted();
    await renaming.query("COMMIT");
  } catch (error) {
    // It would wait behind the statement that runs.
    if (!signal.aborted) await renaming.query("ROLLBACK").catch(() => {});
    throw error;
  } finally {
    stop.abort();
    await ended.catch(() => {});
  }
}
