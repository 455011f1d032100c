import type { DatabaseProperties } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { fail } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { PostgresConnection } from "../postgres/connect.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { admissionStatement } from "./database-statements.ts";
import { findDatabase } from "./staged-database.ts";

/** A staged database and the name it gets. */
export interface Swap {
  readonly staged: string;
  /** Oid of the staged database: its name alone may be another one's by now. */
  readonly oid: number;
  readonly target: string;
  /** Name that the present database of the target's name gets; undefined when there is none. */
  readonly keptAs: string | undefined;
  /** Oid of that present database, where nothing but that very one may be swapped out. */
  readonly replacesOid?: number;
  /** Of the staged database: its connection limit and template mark come into force with the swap. */
  readonly properties: Pick<DatabaseProperties, "connectionLimit" | "isTemplate">;
}

const pauseMs = 50;

/**
 * Ends the sessions of the databases again and again until stopped: new ones may have come in before the lock. Also those
 * of background workers (a scheduler, pg_cron), which the server counts as well. A worker of autovacuum it ends itself;
 * replication is refused beforehand.
 */
async function endSessions(
  connection: PostgresConnection,
  databases: readonly string[],
  stop: AbortSignal,
): Promise<void> {
  while (!stop.aborted) {
    await connection.query(
      `select pg_terminate_backend(a.pid) from pg_stat_activity a join pg_database d on d.oid = a.datid
       where d.datname = any($1) and a.backend_type !~ '^(autovacuum worker|walsender|logical replication)'`,
      [databases],
    );
    await sleep(pauseMs, stop).catch(() => {});
  }
}

/** Fails with DATABASE_IN_USE: the database of that name is another one than the one that was to be swapped out. */
export function refuseOther(target: string): never {
  fail(
    "DATABASE_IN_USE",
    `the database ${JSON.stringify(target)} is no more the one that the restored one was compared with`,
    {
      hint: "nothing was replaced; restore once more, so that it is compared with the present one",
    },
  );
}

/**
 * Puts a staged database into the place of another in one transaction; until it commits nothing at all has changed, so
 * that an agent, or a server, that dies meanwhile leaves the original as it was, open and under its name. RENAME locks
 * the database against new sessions, then waits up to 5 s for the present ones to be gone: a second connection ends
 * them meanwhile. (CountOtherDBBackends in PostgreSQL's procarray.c.) An abort counts until COMMIT is sent: what is
 * thrown is the signal's reason, and the server rolls back when the connection is closed; afterwards it counts no more.
 * Fails with DATABASE_IN_USE when sessions remain, when another restore has staged a database under the same name since,
 * or when another database than the given one would be swapped out; with DATABASE_EXISTS, or as connections do.
 */
export async function swapDatabase(
  renaming: PostgresConnection,
  ending: PostgresConnection,
  { staged, oid, target, keptAs, replacesOid, properties }: Swap,
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
    if ((await raceSignal(findDatabase(renaming, target), signal)) !== oid)
      fail("DATABASE_IN_USE", `the database ${staged} is no more the one that was restored`, {
        hint: "let the other restore of the same backup come to its end, then try again",
      });
    if (keptAs !== undefined && replacesOid !== undefined) {
      const found = await raceSignal(findDatabase(renaming, keptAs), signal);
      if (found !== replacesOid) refuseOther(target);
    }
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
