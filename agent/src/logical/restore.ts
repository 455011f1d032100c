import { create } from "@bufbuild/protobuf";
import {
  type RestoreDatabaseCommand,
  type RestoreDatabaseResult,
  RestoreDatabaseResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { sleep } from "@coppice/proto/kit/sleep";
import { openConnection } from "../postgres/connect.ts";
import { type Compared, compareDatabase } from "./compare.ts";
import { expectedOf, useListOf } from "./scope.ts";
import { compareRows } from "./checksums.ts";
import { loadDump, workFiles } from "./load.ts";
import { inspectRestore, type RestorePlan, type RestoreToPlan } from "./plan.ts";
import { applyProperties, createStagedDatabase, dropStagedDatabase, findDatabase } from "./staged-database.ts";
import { swapDatabase } from "./swap.ts";

/** What a restore is done with. */
export interface RestoreRequest extends RestoreToPlan {
  readonly onProgress: (work: WorkDone) => void;
  readonly log: (line: string) => void;
  /**
   * Told the oid of the staged database before anything is put into it; settleRestore needs it to tell the restored
   * database from another one of its name. The restore goes on when the promise resolves.
   */
  readonly onStaged: (oid: number) => Promise<void>;
  /** Told what a failed restore could not clear away. */
  readonly onLeaving: (leaving: string) => void;
}

const cleanUpMs = 60_000;
/** Who cancels does not wait for a server that does not answer: what stays is named. */
const cancelledCleanUpMs = 5_000;
const clearPauseMs = 500;
const swapMs = 60_000;

interface Filled {
  readonly compared: Compared;
  readonly warnings: string[];
  readonly bytesRead: bigint;
}

async function stage(request: RestoreRequest, plan: RestorePlan): Promise<number> {
  const { stagedDatabase: name } = request.command;
  await using connection = await openConnection(plan.endpoint, {
    database: plan.adminDatabase,
    signal: request.signal,
  });
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

/** Compares the rows themselves where it was asked for; gives what could not be. */
async function checkRows(request: RestoreRequest, plan: RestorePlan, database: string): Promise<string[]> {
  const { source, scope, access, isInto } = plan;
  const { checksums, contents } = scope.selection;
  if (!checksums || contents === DumpContents.SCHEMA_ONLY) return [];
  if (isInto && contents === DumpContents.DATA_ONLY)
    return ["the rows were not compared with the archive's: the tables hold others too"];
  request.onProgress(create(WorkDoneSchema, { phase: "comparing", item: database }));
  const { useList: listFile } = workFiles(request.workFolder, request.command.stagedDatabase);
  const count = await compareRows({
    source,
    access,
    database,
    useList: useListOf(scope),
    listFile,
    signal: request.signal,
  });
  request.log(`the rows of ${count} tables are the archive's, compared by a second reading of it`);
  return [];
}

/** Loads the dump into a database, staged or there, and compares what came of it. */
async function fill(request: RestoreRequest, plan: RestorePlan, database: string): Promise<Filled> {
  const { command, signal, log } = request;
  const { source, scope, access, endpoint, isInto } = plan;
  const progress = create(WorkDoneSchema, {
    phase: "restoring",
    item: command.database || source.title,
    totalBytes: source.storedBytes,
  });
  log(`loading ${JSON.stringify(command.database || source.title)}, ${formatSize(source.storedBytes)}`);
  const loaded = await loadDump({
    source,
    section: command.database,
    access,
    database,
    jobs: command.jobs,
    isOneTransaction: isInto,
    options: [...scope.options, ...(plan.keepsTablespaces ? [] : ["--no-tablespaces"])],
    useList: useListOf(scope),
    workFolder: request.workFolder,
    stagedDatabase: command.stagedDatabase,
    signal,
    log,
    onBytes: (bytes) => {
      progress.doneBytes += BigInt(bytes);
      request.onProgress(progress);
    },
  });
  log("loaded; comparing it with what the dump lists");
  const compared = await compareDatabase({
    expected: expectedOf(scope, source.toolMajor, isInto),
    access,
    endpoint,
    database,
    signal,
    onTable: (doneItems, totalItems) =>
      request.onProgress(create(WorkDoneSchema, { phase: "comparing", item: database, doneItems, totalItems })),
  });
  log(`compared ${compared.objects} objects, ${compared.tables} tables, ${compared.rows} rows`);
  const checked = await checkRows(request, plan, database);
  const seen = plan.items.flatMap(({ message, warning }) => (warning ? [`${message}: ${warning}`] : []));
  return {
    compared,
    warnings: [...seen, ...loaded.warnings, ...compared.warnings, ...checked],
    bytesRead: progress.doneBytes,
  };
}

async function giveProperties({ command, signal }: RestoreRequest, plan: RestorePlan): Promise<string[]> {
  await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
  return await applyProperties(connection, command.stagedDatabase, plan.properties);
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

/** Fails with OUTCOME_UNKNOWN when nobody can say. */
async function isInPlace(command: RestoreDatabaseCommand, plan: RestorePlan, oid: number): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(cleanUpMs);
    await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
    // It waits for a COMMIT that is still under way on the server, and finds the name gone after it.
    await dropStagedDatabase(connection, command.stagedDatabase);
    return (await findDatabase(connection, command.targetDatabase)) === oid;
  } catch (error) {
    return fail("OUTCOME_UNKNOWN", "the server was lost while the restored database was put into place", {
      cause: error,
    });
  }
}

async function clearAway(request: RestoreRequest, plan: RestorePlan): Promise<void> {
  const { stagedDatabase } = request.command;
  // Not the operation's own signal, which may be aborted already.
  const signal = AbortSignal.timeout(request.signal.aborted ? cancelledCleanUpMs : cleanUpMs);
  try {
    for (;;) {
      try {
        await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
        if (await dropStagedDatabase(connection, stagedDatabase)) request.log(`dropped the database ${stagedDatabase}`);
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

function toResult({ compared, warnings, bytesRead }: Filled, place: { database: string; oid: number; keptAs: string }) {
  const { objects, tables, rows } = compared;
  return create(RestoreDatabaseResultSchema, { ...place, objects, tables, rows, warnings, bytesRead });
}

/** Into a database that is there: what fails changes nothing, because the tool's one transaction is rolled back. */
async function restoreInto(request: RestoreRequest, plan: RestorePlan): Promise<RestoreDatabaseResult> {
  const { targetDatabase: database } = request.command;
  const filled = await fill(request, plan, database);
  await using connection = await openConnection(plan.endpoint, {
    database: plan.adminDatabase,
    signal: request.signal,
  });
  const oid = await findDatabase(connection, database);
  return toResult(filled, { database, oid: oid ?? 0, keptAs: "" });
}

/**
 * Restores one database of a dump: beside what is there, compared with the archive, given its properties, and only then
 * put into place in one transaction; or, when the command says so, into a database that is there, in one transaction.
 * When it fails or is aborted the staged database is dropped and nothing else has been touched. Fails with the first
 * item that the plan refuses, ARCHIVE_DIFFERS, DIGEST_MISMATCH, PROGRAM_FAILED, DATABASE_IN_USE, as filterScript,
 * connections and the storage do, with the signal's reason, or with OUTCOME_UNKNOWN when the server was lost at the last
 * step: then settleRestore finds out.
 */
export async function restoreDatabase(request: RestoreRequest): Promise<RestoreDatabaseResult> {
  const { command } = request;
  request.onProgress(create(WorkDoneSchema, { phase: "preflight", item: command.database }));
  const plan = await inspectRestore(request);
  const refused = plan.items.find(({ failure }) => failure);
  if (refused?.failure) throw refused.failure;
  if (plan.isInto) return await restoreInto(request, plan);
  try {
    const oid = await stage(request, plan);
    const filled = await fill(request, plan, command.stagedDatabase);
    filled.warnings.push(...(await giveProperties(request, plan)));
    await swap(request, plan, oid);
    for (const warning of filled.warnings) request.log(`warning: ${warning}`);
    request.log(`put into place as ${JSON.stringify(command.targetDatabase)}`);
    const keptAs = plan.replaces ? command.keptDatabase : "";
    return toResult(filled, { database: command.targetDatabase, oid, keptAs });
  } catch (error) {
    await clearAway(request, plan);
    throw error;
  }
}
