import { fail } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { openConnection, type PostgresConnection } from "../../postgres/connect.ts";
import type { ResolvedEndpoint } from "../../postgres/endpoint.ts";

/** What became of a transaction. */
export type TransactionEnd = "committed" | "aborted";

/** How far a restore into a database that is there has come. */
export type IntoProgress =
  /** Nothing has been written. */
  | { readonly is: "looking" }
  /** It may have been; `xid` is its transaction, as soon as that is known. */
  | { readonly is: "loading"; readonly xid?: string }
  /** It is, for good. */
  | { readonly is: "committed" };

/** What the session of a restore into a database calls itself, so that it can be found again. */
export const intoSession = (stagedDatabase: string) => `coppice ${stagedDatabase}`;

const lookEveryMs = 50;
const endMs = 10_000;
const settleMs = 100;

/**
 * Watches for the transaction of a session of that name until it has written something, then tells its id (xid8, as
 * text) once. Disposing of it ends the watch. Fails as connections do; what goes wrong later is no trouble of the
 * restore's: then its id is not known.
 */
export async function watchTransaction(
  endpoint: ResolvedEndpoint,
  {
    session,
    signal,
    onFound,
  }: { readonly session: string; readonly signal: AbortSignal; readonly onFound: (xid: string) => Promise<void> },
): Promise<AsyncDisposable> {
  const stop = new AbortController();
  const connection = await openConnection(endpoint, { signal: AbortSignal.any([signal, stop.signal]) });
  const watching = (async () => {
    for (;;) {
      const found = await findTransaction(connection, session);
      if (found !== undefined) {
        await keepFromReuse(connection);
        return await onFound(found);
      }
      await sleep(lookEveryMs, stop.signal);
    }
  })();
  watching.catch(() => {});
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watching.catch(() => {});
      await connection[Symbol.asyncDispose]();
    },
  };
}

/**
 * A server that crashes forgets the ids of which nothing has come to its disk, and gives them again; a later transaction
 * that has come there keeps all earlier ones from it.
 */
async function keepFromReuse(connection: PostgresConnection): Promise<void> {
  await connection.query("set synchronous_commit = local");
  await connection.query("select pg_logical_emit_message(true, 'coppice', 'restore')");
}

interface SeenSession {
  /** Id of its transaction once it has written something. */
  readonly xid: string | null;
  /** Whether it is in a transaction whose COMMIT it has not been told. */
  readonly isBeforeCommit: boolean;
}

/** The server shows 32 bits of the id; the others are those of the ids that it gives at the moment. */
async function seeSessions(connection: PostgresConnection, session: string): Promise<SeenSession[]> {
  const rows = await connection.query<{ xid: string | null; next: string; isBeforeCommit: boolean }>(
    `select backend_xid::text as xid, pg_snapshot_xmax(pg_current_snapshot())::text as next,
       xact_start is not null and query !~* '^\\s*(commit|end)\\M' as "isBeforeCommit"
     from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()`,
    [session],
  );
  return rows.map(({ xid, next, isBeforeCommit }) => ({
    xid: xid && String(BigInt(next) + BigInt.asIntN(32, BigInt(xid) - BigInt(next))),
    isBeforeCommit,
  }));
}

async function findTransaction(connection: PostgresConnection, session: string): Promise<string | undefined> {
  const sessions = await seeSessions(connection, session);
  return sessions.find(({ xid }) => xid !== null)?.xid ?? undefined;
}

/**
 * Whether the session of a program that is dead was left before its COMMIT. What the program has sent is worked off
 * within the pause, and it sends no COMMIT before it has the answer to what comes before it.
 */
async function isLeftBeforeCommit(connection: PostgresConnection, session: string, signal: AbortSignal) {
  const isBefore = (sessions: readonly SeenSession[]) =>
    sessions.length > 0 && sessions.every(({ isBeforeCommit }) => isBeforeCommit);
  if (!isBefore(await seeSessions(connection, session))) return false;
  await sleep(settleMs, signal);
  return isBefore(await seeSessions(connection, session));
}

/**
 * Ends the session of that name, whose program is dead, and says what became of its transaction; undefined when nobody can
 * tell: its id is too old, or not known and the session gone. Afterwards nothing comes of it any more. Fails with DATABASE_IN_USE when the session does not end, or as connections do.
 */
export async function endTransaction(
  endpoint: ResolvedEndpoint,
  {
    session,
    xid,
    signal,
  }: { readonly session: string; readonly xid: string | undefined; readonly signal: AbortSignal },
): Promise<TransactionEnd | undefined> {
  await using connection = await openConnection(endpoint, { signal });
  const known = xid ?? (await findTransaction(connection, session));
  const isBeforeCommit = known === undefined && (await isLeftBeforeCommit(connection, session, signal));
  const ended = await connection.query<{ pid: number; ended: boolean }>(
    `select pid, pg_terminate_backend(pid, ${endMs}) as ended from pg_stat_activity
     where application_name = $1 and pid <> pg_backend_pid()`,
    [session],
  );
  const left = ended.find((one) => !one.ended);
  if (left)
    fail("DATABASE_IN_USE", `the server's process ${left.pid} still restores and does not end`, {
      hint: "look at that process, then try again",
    });
  if (known === undefined) return isBeforeCommit ? "aborted" : undefined;
  // An id that the server has not given yet is one that it has forgotten in a crash.
  const { state } = await connection.queryOne<{ state: string | null }>(
    `select case when $1::xid8 >= pg_snapshot_xmax(pg_current_snapshot()) then 'aborted' else pg_xact_status($1::xid8) end
       as state`,
    [known],
  );
  return state === "committed" || state === "aborted" ? state : undefined;
}
