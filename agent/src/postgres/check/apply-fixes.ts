import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { type AppliedStatement, AppliedStatementSchema } from "@coppice/proto/gen/coppice/common/v1/check";
import { isFailure } from "@coppice/proto/kit/failure";
import { type PostgresConnection, slowAnswer } from "../connect.ts";
import type { Item } from "./item.ts";

const reloadMs = 10_000;
const lookAgainMs = 20;

/** Statements of items that take effect at once, without those of an item that were not all confirmed. */
function chosen(items: readonly Item[], confirmed: ReadonlySet<string>): (readonly string[])[] {
  const live = items.filter(({ statements, needsRestart }) => statements.length > 0 && !needsRestart);
  const lists = live.map(({ statements }) => statements).filter((list) => list.every((each) => confirmed.has(each)));
  // Several databases may want the same.
  return [...new Map(lists.map((list) => [list.join("\n"), list])).values()];
}

/** Waits until the server has read its configuration again: it passes the signal on to our session when it has. */
async function waitForReload(connection: PostgresConnection, before: string, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + reloadMs;
  while ((await loadTime(connection)) === before && performance.now() < deadline)
    await delay(lookAgainMs, undefined, { signal });
}

async function loadTime(connection: PostgresConnection): Promise<string> {
  return (await connection.queryOne<{ at: string }>("select pg_conf_load_time()::text as at")).at;
}

/**
 * Runs what mends the items, those statements alone that were confirmed and need no restart. A statement that the server
 * refuses ends its own item's, not the others'. Fails with the signal's reason, and when the connection is lost.
 */
export async function applyFixes(
  connection: PostgresConnection,
  items: readonly Item[],
  {
    confirmed,
    onApplied,
    log,
    signal,
  }: {
    readonly confirmed: readonly string[];
    /** Told each statement as soon as it was run or refused. */
    readonly onApplied: (applied: AppliedStatement) => void;
    readonly log: (line: string) => void;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const done = new Set<string>();
  for (const statements of chosen(items, new Set(confirmed))) {
    for (const statement of statements) {
      const before = await loadTime(connection);
      const problem = await run(connection, statement, signal);
      log(problem ? `refused: ${statement} ${problem}` : `ran: ${statement}`);
      onApplied(create(AppliedStatementSchema, { statement, problem }));
      done.add(statement);
      if (problem) break;
      if (statement.includes("pg_reload_conf()")) await waitForReload(connection, before, signal);
    }
  }
  for (const statement of confirmed)
    if (!done.has(statement)) log(`not run, for the check does not ask for it now: ${statement}`);
}

async function run(connection: PostgresConnection, statement: string, signal: AbortSignal): Promise<string> {
  try {
    // What it changes is committed, which may wait for a synchronous standby.
    await connection.query(statement, [], slowAnswer);
    return "";
  } catch (error) {
    signal.throwIfAborted();
    if (!isFailure(error) || error.reason === "CLUSTER_UNREACHABLE") throw error;
    return error.message;
  }
}
