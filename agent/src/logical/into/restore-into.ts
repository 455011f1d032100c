import type { RestoreDatabaseResult } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { openConnection } from "../../postgres/connect.ts";
import { check, load, type LoadedDump, type RestoreRequest, toResult } from "../load-and-check.ts";
import type { RestorePlan } from "../plan.ts";
import { applyToPresent, findDatabase } from "../staged-database.ts";
import { keptProperties } from "./kept-properties.ts";
import { endTransaction, intoSession, watchTransaction } from "./transaction.ts";

const cleanUpMs = 60_000;

/** A failure after the commit: nobody may take it for a restore that changed nothing and load the rows once more. */
function afterCommit(error: unknown, database: string): unknown {
  if (!isFailure(error)) return error;
  const { reason, message, hint, metadata } = error;
  const where = JSON.stringify(database);
  return new Failure(reason, `all of it was loaded into ${where} and stays there; afterwards: ${message}`, {
    hint,
    metadata,
    cause: error,
  });
}

/**
 * Loads into a database that is there. What it throws is thrown of a transaction that was rolled back, or of one that was
 * committed and is named as left behind; where neither is known, and where a restore was cut off behind its COMMIT, it
 * fails with OUTCOME_UNKNOWN.
 */
async function loadInto(request: RestoreRequest, plan: RestorePlan): Promise<LoadedDump> {
  const { command, signal } = request;
  const session = intoSession(command.stagedDatabase);
  let xid: string | undefined;
  await request.onInto?.({ is: "loading" });
  try {
    await using _watch = await watchTransaction(plan.endpoint, {
      session,
      signal,
      async onFound(found) {
        await request.onInto?.({ is: "loading", xid: found });
        xid = found;
      },
    });
    return await load(request, plan, command.targetDatabase);
  } catch (error) {
    const end = await endTransaction(plan.endpoint, { session, xid, signal: AbortSignal.timeout(cleanUpMs) }).catch(
      () => undefined,
    );
    if (end === "aborted" || (end === undefined && isRefusal(error, signal))) throw error;
    if (end === "committed" && isFailure(error) && error.code === "data_loss") {
      request.onLeaving(`what was restored into the database ${JSON.stringify(command.targetDatabase)}`);
      throw error;
    }
    return fail("OUTCOME_UNKNOWN", "the restore was cut off, and its transaction may have been committed", {
      cause: error,
    });
  }
}

/** Whether a tool has come to its end by itself and said why: then it has not committed. */
function isRefusal(error: unknown, signal: AbortSignal): boolean {
  if (signal.aborted || !isFailure(error)) return false;
  return (
    error.reason !== "PROGRAM_FAILED" || !/SIG[A-Z]+|terminating connection|connection to server/.test(error.message)
  );
}

/** Into a database that is there, in the tool's one transaction; from its COMMIT on there is no way back. */
export async function restoreInto(request: RestoreRequest, plan: RestorePlan): Promise<RestoreDatabaseResult> {
  const { targetDatabase: database } = request.command;
  const loaded = await loadInto(request, plan);
  await request.onInto?.({ is: "committed" });
  try {
    const filled = await check(request, plan, database, loaded);
    await using connection = await openConnection(plan.endpoint, {
      database: plan.adminDatabase,
      signal: request.signal,
    });
    const lacking = await applyToPresent(connection, plan.presentStatements);
    for (const warning of lacking) request.log(`warning: ${warning}`);
    const warnings = [...filled.warnings, ...lacking, ...(await keptProperties(connection, plan, database))];
    const oid = await findDatabase(connection, database);
    return toResult({ ...filled, warnings }, { database, oid: oid ?? 0, keptAs: "" });
  } catch (error) {
    if (isFailure(error) && error.code === "data_loss") {
      request.onLeaving(`all that was restored, in the database ${JSON.stringify(database)}: it was committed before`);
      throw afterCommit(error, database);
    }
    return fail("OUTCOME_UNKNOWN", "what was restored is committed, and comparing it was cut off", { cause: error });
  }
}
