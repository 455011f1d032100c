import { create } from "@bufbuild/protobuf";
import { RestoreDatabaseResultSchema } from "@coppice/proto/gen/coppice/agent/v1/restore_database";
import { DumpContents } from "@coppice/proto/gen/coppice/common/v1/dump_options";
import type { HeldDatabase } from "@coppice/proto/gen/coppice/common/v1/held_database";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import { openConnection } from "../postgres/connect.ts";
import { allowWrites, type ToolAccess } from "../postgres/tool-access.ts";
import { describeEntries } from "./archive/select.ts";
import { type Compared, compareDatabase } from "./compare.ts";
import { compareRows } from "./checksums.ts";
import { type IntoProgress, intoSession } from "./into/transaction.ts";
import { loadDump, workFiles } from "./load.ts";
import type { RestorePlan, RestoreToPlan } from "./plan.ts";
import { expectedOf, useListOf } from "./scope.ts";

/** What a restore is done with. */
export interface RestoreRequest extends RestoreToPlan {
  readonly onProgress: (work: WorkDone) => void;
  readonly log: (line: string) => void;
  /**
   * Told the oid of the staged database before anything is put into it; settleRestore needs it to tell the restored
   * database from another one of its name. The restore goes on when the promise resolves.
   */
  readonly onStaged: (oid: number) => Promise<void>;
  /**
   * Told how far a restore into a database that is there has come, before it goes on; settleRestore needs the last of it,
   * and "looking" from who began the restore. Left out by who restores into none.
   */
  readonly onInto?: (progress: IntoProgress) => Promise<void>;
  /** Told what a failed restore could not clear away. */
  readonly onLeaving: (leaving: string) => void;
}

/** What was loaded and compared. */
export interface Filled {
  readonly compared: Compared;
  readonly warnings: string[];
  readonly bytesRead: bigint;
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
  const inserted = (scope.entries ?? []).filter(({ kind, copy }) => kind === "TABLE DATA" && copy === "");
  if (inserted.length === 0) return [];
  return [
    `the rows of ${inserted.length} tables were only counted, not compared with the archive's, which holds them as INSERT: ${describeEntries(inserted)}`,
  ];
}

/**
 * A script lists no objects, but its COPY rows were counted on their way in. A foreign table's rows lie elsewhere, and
 * nobody counts them. Fails with ARCHIVE_DIFFERS when rows are missing.
 */
async function requireScriptRows(
  { signal }: RestoreRequest,
  plan: RestorePlan,
  { database, read, rows }: { database: string; read: bigint; rows: bigint },
): Promise<void> {
  if (rows >= read) return;
  await using connection = await openConnection(plan.endpoint, { database, signal });
  const { hasForeign } = await connection.queryOne<{ hasForeign: boolean }>(
    'select exists (select from pg_foreign_table) as "hasForeign"',
  );
  if (hasForeign) return;
  fail("ARCHIVE_DIFFERS", `${plan.source.title} holds ${read} rows, and ${JSON.stringify(database)} has ${rows}`);
}

/** What was loaded, not yet compared. */
export interface LoadedDump {
  /** COPY rows of a script; undefined for an archive. */
  readonly scriptRows: bigint | undefined;
  readonly warnings: readonly string[];
  readonly bytesRead: bigint;
}

/** Only where it is needed are the sessions told more: poolers refuse that. */
async function findLoadAccess(
  { signal }: RestoreRequest,
  { access, endpoint }: RestorePlan,
  database: string,
): Promise<ToolAccess> {
  await using connection = await openConnection(endpoint, { database, signal });
  const { readOnly } = await connection.queryOne<{ readOnly: string }>(
    `select reset_val as "readOnly" from pg_settings where name = 'default_transaction_read_only'`,
  );
  return readOnly === "on" ? allowWrites(access) : access;
}

/** Loads the dump into a database, staged or there. */
export async function load(request: RestoreRequest, plan: RestorePlan, database: string): Promise<LoadedDump> {
  const { command, signal, log } = request;
  const { source, scope, isInto } = plan;
  const access = await findLoadAccess(request, plan, database);
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
    lacksToolSettings: plan.lacksToolSettings,
    database,
    jobs: command.jobs,
    isOneTransaction: isInto,
    session: isInto ? intoSession(command.stagedDatabase) : undefined,
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
  return { warnings: loaded.warnings, scriptRows: loaded.scriptRows, bytesRead: progress.doneBytes };
}

/** Compares what was loaded with what the dump lists. */
export async function check(
  request: RestoreRequest,
  plan: RestorePlan,
  database: string,
  loaded: LoadedDump,
): Promise<Filled> {
  const { signal, log } = request;
  const { source, scope, access, endpoint, isInto } = plan;
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
  if (loaded.scriptRows !== undefined && !isInto)
    await requireScriptRows(request, plan, { database, read: loaded.scriptRows, rows: compared.rows });
  log(`compared ${compared.objects} objects, ${compared.tables} tables, ${compared.rows} rows`);
  const checked = await checkRows(request, plan, database);
  const seen = plan.items.flatMap(({ message, warning }) => (warning ? [`${message}: ${warning}`] : []));
  return {
    compared,
    warnings: [...seen, ...loaded.warnings, ...compared.warnings, ...checked],
    bytesRead: loaded.bytesRead,
  };
}

/** The answer to a restore. */
export function toResult(
  { compared, warnings, bytesRead }: Filled,
  place: { readonly database: string; readonly oid: number; readonly keptAs: string; readonly held?: HeldDatabase },
) {
  const { objects, tables, rows } = compared;
  return create(RestoreDatabaseResultSchema, { ...place, objects, tables, rows, warnings, bytesRead });
}
