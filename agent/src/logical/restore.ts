import { create } from "@bufbuild/protobuf";
import {
  type RestoreDatabaseCommand,
  type RestoreDatabaseResult,
  RestoreMode,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { type HeldDatabase, HeldDatabaseSchema } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { openConnection } from "../postgres/connect.ts";
import { propertyStatements } from "./database-statements.ts";
import { restoreInto } from "./into/restore-into.ts";
import { check, load, type RestoreRequest, toResult } from "./load-and-check.ts";
import { inspectRestore, type RestorePlan } from "./plan.ts";
import {
  applyProperties,
  closeHeld,
  createStagedDatabase,
  dropStagedDatabase,
  findDatabase,
  openingStatements,
} from "./staged-database.ts";
import { swapDatabase } from "./swap.ts";

const cleanUpMs = 60_000;
/** Who cancels does not wait for a server that does not answer: what stays is named. */
const cancelledCleanUpMs = 5_000;
const clearPauseMs = 500;
const swapMs = 60_000;

async function stage(request: RestoreRequest, plan: RestorePlan): Promise<number> {
  const { command, signal } = request;
  const name = command.stagedDatabase;
  await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
  // Left by an earlier attempt of the same operation: nobody else makes this name.
  if (await dropStagedDatabase(connection, name)) request.log(`dropped the database ${name} of an earlier attempt`);
  const oid = await createStagedDatabase(connection, {
    name,
    properties: plan.properties,
    tablespace: plan.tablespace,
  });
  await request.onStaged(oid);
  request.log(`created the database ${name} beside what is there`);
  return oid;
}

async function giveProperties({ command, signal }: RestoreRequest, plan: RestorePlan): Promise<string[]> {
  await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
  const name = command.stagedDatabase;
  return await applyProperties(connection, [
    ...propertyStatements(name, plan.properties),
    ...(await openingStatements(connection, name, plan.properties)),
  ]);
}

/** The swap; a connection that broke at its COMMIT is asked what came of it. */
async function swap(request: RestoreRequest, plan: RestorePlan, oid: number): Promise<void> {
  const { command, signal } = request;
  request.onProgress(create(WorkDoneSchema, { phase: "swapping", item: command.targetDatabase }));
  // Not the operation's own signal: a COMMIT that was sent must be waited for.
  const options = { database: plan.adminDatabase, signal: AbortSignal.timeout(swapMs) };
  try {
    await using renaming = await openConnection(plan.endpoint, options);
    await using ending = await openConnection(plan.endpoint, options);
    const names = {
      staged: command.stagedDatabase,
      oid,
      target: command.targetDatabase,
      keptAs: plan.replaces ? command.keptDatabase : undefined,
      properties: plan.properties,
    };
    await swapDatabase(renaming, ending, names, signal);
  } catch (error) {
    if (signal.aborted && error === signal.reason) throw error;
    if (!(await isInPlace(command, plan, oid))) throw error;
  }
}

/** Leaves the staged database beside the one whose place it may take, for somebody to decide. */
async function hold({ command, signal }: RestoreRequest, plan: RestorePlan, oid: number): Promise<HeldDatabase> {
  const { stagedDatabase: name, targetDatabase: target } = command;
  await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
  await closeHeld(connection, name);
  const replacesOid = await findDatabase(connection, target);
  if (replacesOid === undefined || (await findDatabase(connection, name)) !== oid)
    fail("DATABASE_IN_USE", `the databases ${JSON.stringify(target)} and ${name} are no more what they were`, {
      hint: "nothing was replaced; see who renames or drops databases there, then restore once more",
    });
  const { connectionLimit, isTemplate } = plan.properties;
  return create(HeldDatabaseSchema, { name, oid, replacesOid, connectionLimit, isTemplate });
}

/** Fails with OUTCOME_UNKNOWN when nobody can say. */
async function isInPlace(command: RestoreDatabaseCommand, plan: RestorePlan, oid: number): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(cleanUpMs);
    await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
    // It waits for a COMMIT that is still under way on the server, and finds the name gone after it.
    await dropStagedDatabase(connection, command.stagedDatabase, oid);
    return (await findDatabase(connection, command.targetDatabase)) === oid;
  } catch (error) {
    return fail("OUTCOME_UNKNOWN", "the server was lost while the restored database was put into place", {
      cause: error,
    });
  }
}

async function clearAway(request: RestoreRequest, plan: RestorePlan, oid: number | undefined): Promise<void> {
  const { stagedDatabase } = request.command;
  // Not the operation's own signal, which may be aborted already.
  const signal = AbortSignal.timeout(request.signal.aborted ? cancelledCleanUpMs : cleanUpMs);
  try {
    for (;;) {
      try {
        await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
        const isDropped = await dropStagedDatabase(connection, stagedDatabase, oid);
        if (isDropped) request.log(`dropped the database ${stagedDatabase}`);
        return;
      } catch (error) {
        // A server that crashed, and took the restore with it, is mostly back in some seconds; who cancelled does not wait.
        if (request.signal.aborted || !isFailure(error, "CLUSTER_UNREACHABLE")) throw error;
        await sleep(clearPauseMs, signal).catch(() => {});
        if (signal.aborted) throw error;
      }
    }
  } catch (error) {
    const why = isFailure(error) ? error.message : "the server did not answer in time";
    request.onLeaving(`the database ${stagedDatabase}: ${why}`);
  }
}

/**
 * Restores one database of a dump: beside what is there, compared with the archive, given its properties, and only then
 * put into place in one transaction; or, when the command says so, into a database that is there, in one transaction; or
 * left beside the one that it may replace, for decideRestore.
 * When it fails or is aborted the staged database is dropped and nothing else has been touched; what was committed into
 * a database that is there stays and is told by onLeaving. Fails with the first item that the plan refuses,
 * ARCHIVE_DIFFERS, DIGEST_MISMATCH, PROGRAM_FAILED, DATABASE_IN_USE, as filterScript, connections and the storage do, with
 * the signal's reason, or with OUTCOME_UNKNOWN when the server was lost at the last step: then settleRestore finds out.
 */
export async function restoreDatabase(request: RestoreRequest): Promise<RestoreDatabaseResult> {
  const { command } = request;
  request.onProgress(create(WorkDoneSchema, { phase: "preflight", item: command.database }));
  const plan = await inspectRestore(request);
  const refused = plan.items.find(({ failure }) => failure);
  if (refused?.failure) throw refused.failure;
  if (plan.isInto) return await restoreInto(request, plan);
  let oid: number | undefined;
  try {
    oid = await stage(request, plan);
    const loaded = await load(request, plan, command.stagedDatabase);
    const filled = await check(request, plan, command.stagedDatabase, loaded);
    filled.warnings.push(...(await giveProperties(request, plan)));
    for (const warning of filled.warnings) request.log(`warning: ${warning}`);
    if (command.mode === RestoreMode.HOLD && plan.replaces) {
      const held = await hold(request, plan, oid);
      request.log(`left beside as ${held.name}, closed; ${JSON.stringify(command.targetDatabase)} is as it was`);
      return toResult(filled, { database: held.name, oid, keptAs: "", held });
    }
    await swap(request, plan, oid);
    request.log(`put into place as ${JSON.stringify(command.targetDatabase)}`);
    const keptAs = plan.replaces ? command.keptDatabase : "";
    return toResult(filled, { database: command.targetDatabase, oid, keptAs });
  } catch (error) {
    await clearAway(request, plan, oid);
    throw error;
  }
}
