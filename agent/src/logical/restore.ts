import { create } from "@bufbuild/protobuf";
import {
  type RestoreDatabaseCommand,
  type RestoreDatabaseResult,
  RestoreDatabaseResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { DatabaseProperties } from "@coppice/proto/gen/coppice/repository/v1/database_properties";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { sleep } from "@coppice/proto/kit/sleep";
import { openConnection } from "../postgres/connect.ts";
import { type Compared, compareDatabase } from "./compare.ts";
import { loadArchive } from "./load.ts";
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

interface Loaded {
  readonly compared: Compared;
  readonly warnings: string[];
  readonly bytesRead: bigint;
}

function propertiesOf(plan: RestorePlan): DatabaseProperties {
  const { properties, name } = plan.database;
  return (
    properties ?? fail("MANIFEST_UNREADABLE", `the manifest has no properties of the database ${JSON.stringify(name)}`)
  );
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
    properties: propertiesOf(plan),
    tablespace: plan.tablespace,
  });
  await request.onStaged(oid);
  request.log(`created the database ${name} beside what is there`);
  return oid;
}

async function fill(request: RestoreRequest, plan: RestorePlan): Promise<Loaded> {
  const { command, signal, log } = request;
  const total = plan.stream.objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n);
  const progress = create(WorkDoneSchema, { phase: "restoring", item: command.database, totalBytes: total });
  log(`loading the archive of ${JSON.stringify(command.database)}, ${formatSize(total)}`);
  await loadArchive(request.storage, {
    prefix: plan.prefix,
    stream: plan.stream,
    access: plan.access,
    database: command.stagedDatabase,
    jobs: command.jobs,
    keepsTablespaces: plan.keepsTablespaces,
    workFolder: request.workFolder,
    signal,
    log,
    onBytes: (bytes) => {
      progress.doneBytes += BigInt(bytes);
      request.onProgress(progress);
    },
  });
  log(`loaded; comparing it with the ${plan.toc.objects.length} entries of the archive`);
  const compared = await compareDatabase({
    archive: plan.toc,
    access: plan.access,
    endpoint: plan.endpoint,
    database: command.stagedDatabase,
    signal,
    onTable: (doneItems, totalItems) =>
      request.onProgress(create(WorkDoneSchema, { phase: "comparing", item: command.database, doneItems, totalItems })),
  });
  await using connection = await openConnection(plan.endpoint, { database: plan.adminDatabase, signal });
  const refused = await applyProperties(connection, command.stagedDatabase, propertiesOf(plan));
  const tablespaces = plan.items.flatMap(({ message, warning }) => (warning ? [`${message}: ${warning}`] : []));
  const warnings = [...tablespaces, ...compared.warnings, ...refused];
  for (const warning of warnings) log(`warning: ${warning}`);
  log(`compared ${compared.objects} objects, ${compared.tables} tables, ${compared.rows} rows`);
  return { compared, warnings, bytesRead: progress.doneBytes };
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
      properties: propertiesOf(plan),
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

/**
 * Restores one database of a dump: beside what is there, compared with the archive, given its properties, and only then
 * put into place in one transaction. When it fails or is aborted the staged database is dropped and nothing else has
 * been touched. Fails with the first item that the plan refuses, ARCHIVE_DIFFERS, DIGEST_MISMATCH, PROGRAM_FAILED,
 * DATABASE_IN_USE, as connections and the storage do, with the signal's reason, or with OUTCOME_UNKNOWN when the server
 * was lost at the last step: then settleRestore finds out.
 */
export async function restoreDatabase(request: RestoreRequest): Promise<RestoreDatabaseResult> {
  const { command } = request;
  request.onProgress(create(WorkDoneSchema, { phase: "preflight", item: command.database }));
  const plan = await inspectRestore(request);
  const refused = plan.items.find(({ failure }) => failure);
  if (refused?.failure) throw refused.failure;
  try {
    const oid = await stage(request, plan);
    const { compared, warnings, bytesRead } = await fill(request, plan);
    await swap(request, plan, oid);
    request.log(`put into place as ${JSON.stringify(command.targetDatabase)}`);
    return create(RestoreDatabaseResultSchema, {
      database: command.targetDatabase,
      oid,
      keptAs: plan.replaces ? command.keptDatabase : "",
      objects: compared.objects,
      tables: compared.tables,
      rows: compared.rows,
      warnings,
      bytesRead,
    });
  } catch (error) {
    await clearAway(request, plan);
    throw error;
  }
}
