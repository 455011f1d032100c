// Longer than most because it is one sequence, and its order is the promise: globals, databases, what is missing and
// why, recipe, manifest last.
import { create } from "@bufbuild/protobuf";
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type BackupDumpResult, BackupDumpResultSchema } from "@coppice/proto/gen/coppice/agent/v1/backup_dump";
import { BackupKind } from "@coppice/proto/gen/coppice/common/v1/backup_kind";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import {
  type BackupManifest,
  BackupManifestSchema,
  type DumpedDatabase,
  DumpedDatabaseSchema,
  MissingReason,
} from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { formatDuration } from "@coppice/proto/kit/duration";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { majorOf } from "../postgres/majors.ts";
import { digestRoles } from "../postgres/roles-digest.ts";
import { recipeName } from "../repository/layout.ts";
import { findLeavings, removeLeavings } from "../repository/leavings.ts";
import { commitManifest, storeText } from "../repository/put.ts";
import { isCompleteWithout, type NotDumped } from "./choose-databases.ts";
import type { ClusterDatabase } from "./databases.ts";
import { storeDump } from "./dump-stream.ts";
import { connectForDump, type DumpRequest, prepareDump, type PreparedDump } from "./prepare-dump.ts";
import { formatRecipe, type RecipeFacts } from "./recipe.ts";

/** A committed dump, with a BACKUP_INCOMPLETE when it lacks databases that were wanted. */
export interface Dumped {
  readonly result: BackupDumpResult;
  readonly failure: Failure | undefined;
}

const defaultJobs = 2;
const defaultLockWaitMs = 300_000;
const cleanUpMs = 60_000;
/** Trouble with the repository, or of our own making, ends the backup; all else is one database's trouble. */
function endsBackup(error: unknown): boolean {
  return !isFailure(error) || /^(REPOSITORY|OBJECT|DIGEST|OS_USER|PROGRAM_MISSING)/.test(error.reason);
}

async function dumpDatabase(
  prepared: PreparedDump,
  database: ClusterDatabase,
  { signal, onBytes }: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<DumpedDatabase> {
  const { access, options, prefix, request } = prepared;
  const position = await readPosition(prepared, signal);
  const lockWaitMs = options.lockWaitTimeout ? durationMs(options.lockWaitTimeout) : defaultLockWaitMs;
  const args = ["--format=custom", "--compress=0", `--lock-wait-timeout=${Math.round(lockWaitMs)}`];
  const stream = await storeDump(request.storage, {
    program: access.connecting("pg_dump", database.name, args),
    prefix,
    name: `db/${database.oid}.dump`,
    level: options.compressionLevel,
    signal,
    onBytes,
    log: request.log,
  }).catch((error: unknown) => {
    throw isLockTimeout(error) ? lockTimeout(lockWaitMs, error) : error;
  });
  return create(DumpedDatabaseSchema, {
    oid: database.oid,
    name: database.name,
    format: "custom",
    stream,
    snapshotLsn: position.lsn,
    snapshotTime: timestampFromDate(position.time),
    sizeBytes: database.sizeBytes ?? 0n,
    properties: database.properties,
    roles: [...database.roles],
    tablespaces: [...database.tablespaces],
  });
}

/** pg_dump says it by the server's word for any statement timeout, the only one that it sets. */
function isLockTimeout(error: unknown): boolean {
  return isFailure(error, "PROGRAM_FAILED") && error.message.includes("statement timeout");
}

function lockTimeout(lockWaitMs: number, cause: unknown): Failure {
  const waited = formatDuration(lockWaitMs);
  return new Failure("PROGRAM_FAILED", `pg_dump waited longer than ${waited} for the lock of a table`, { cause });
}

async function readPosition(prepared: PreparedDump, signal: AbortSignal): Promise<{ lsn: string; time: Date }> {
  await using connection = await connectForDump(prepared, signal);
  return await connection.queryOne<{ lsn: string; time: Date }>(`
    select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)::text
      as lsn, clock_timestamp() as time`);
}

async function dumpGlobals(prepared: PreparedDump, onBytes: (bytes: number) => void): Promise<StoredStream> {
  const { access, endpoint, options, prefix, request, roles } = prepared;
  const args = ["--globals-only", `--database=${endpoint.maintenanceDatabase}`];
  if (!roles.readsPasswords) args.push("--no-role-passwords");
  return storeDump(request.storage, {
    program: access.connecting("pg_dumpall", endpoint.maintenanceDatabase, args),
    prefix,
    name: "globals.sql",
    level: options.compressionLevel,
    signal: request.signal,
    onBytes,
    log: request.log,
  });
}

/** Dumps the databases within the limit of jobs; gives them in the order of the list, and the error of each that failed. */
async function dumpDatabases(
  prepared: PreparedDump,
  report: (database: string, bytes: number, isDone: boolean) => void,
): Promise<{ dumped: DumpedDatabase[]; failed: { database: ClusterDatabase; error: Failure }[] }> {
  const { chosen } = prepared.chosen;
  const dumped = new Map<number, DumpedDatabase>();
  const failed: { database: ClusterDatabase; error: Failure }[] = [];
  using all = linkSignals(prepared.request.signal);
  const queue = chosen.values();

  async function work(): Promise<void> {
    for (const database of queue) {
      const { name } = database;
      try {
        const onBytes = (bytes: number) => report(name, bytes, false);
        dumped.set(database.oid, await dumpDatabase(prepared, database, { signal: all.signal, onBytes }));
      } catch (error) {
        all.signal.throwIfAborted();
        if (endsBackup(error) || !isFailure(error)) {
          all.abort(error);
          throw error;
        }
        failed.push({ database, error });
        prepared.request.log(`the dump of ${JSON.stringify(name)} failed: ${error.message}`);
      }
      report(name, 0, true);
    }
  }

  const jobs = Math.min(prepared.options.jobs || defaultJobs, chosen.length);
  const ends = await Promise.allSettled(Array.from({ length: jobs }, work));
  const broken = ends.find((end) => end.status === "rejected");
  if (broken) throw all.signal.aborted ? all.signal.reason : broken.reason;
  return { dumped: chosen.flatMap(({ oid }) => dumped.get(oid) ?? []), failed };
}

/** What the cluster looks like afterwards: which failed databases are gone, and what the recipe needs. */
async function lookAgain(
  prepared: PreparedDump,
  failed: readonly { database: ClusterDatabase; error: Failure }[],
): Promise<{
  missing: NotDumped[];
  rolesChanged: boolean;
  recipe: Pick<RecipeFacts, "bootstrapRole" | "tablespaces">;
}> {
  await using connection = await connectForDump(prepared, prepared.request.signal);
  const present = await connection.query<{ oid: string }>("select oid::text from pg_database");
  const missing = failed.map(({ database, error }): NotDumped => {
    const isDropped = !present.some(({ oid }) => Number(oid) === database.oid);
    return isDropped
      ? { name: database.name, reason: MissingReason.DROPPED, message: "it was dropped while the backup ran" }
      : { name: database.name, reason: MissingReason.FAILED, message: error.message };
  });
  const { role } = await connection.queryOne<{ role: string }>("select pg_get_userbyid(10)::text as role");
  const tablespaces = await connection.query<{ name: string; location: string }>(`
    select spcname::text as name, pg_tablespace_location(oid) as location from pg_tablespace
    where spcname not in ('pg_default', 'pg_global') order by oid`);
  const after = await digestRoles(connection);
  return {
    missing,
    rolesChanged: after.digest !== prepared.roles.digest,
    recipe: { bootstrapRole: role, tablespaces },
  };
}

async function takeDump(prepared: PreparedDump): Promise<Dumped> {
  const { request, address, prefix, access, facts, roles, startTime } = prepared;
  const { command, storage, signal } = request;
  const progress = create(WorkDoneSchema, { phase: "dumping", totalItems: prepared.chosen.chosen.length });
  const report = (item: string, bytes: number, isDone: boolean) => {
    progress.item = item;
    progress.doneBytes += BigInt(bytes);
    if (isDone) progress.doneItems += 1;
    request.onProgress(progress);
  };

  const globals = await dumpGlobals(prepared, (bytes) => report("globals", bytes, false));
  const { dumped, failed } = await dumpDatabases(prepared, report);
  const seen = await lookAgain(prepared, failed);
  if (seen.rolesChanged) request.log("warning: roles were changed while the dump ran");
  const missing = [...prepared.chosen.missing, ...seen.missing];
  const serverMajor = majorOf(facts.serverVersionNum);
  const recipe = formatRecipe({
    clusterName: command.clusterName,
    backupId: address.backupId,
    startTime,
    serverMajor,
    toolMajor: access.tools.major,
    globals,
    hasRolePasswords: roles.readsPasswords,
    databases: dumped,
    missing,
    ...seen.recipe,
  });
  const recipeObject = await storeText(storage, { prefix, key: recipeName, text: recipe, signal });
  const manifest: BackupManifest = create(BackupManifestSchema, {
    formatVersion: 1,
    backupId: address.backupId,
    kind: BackupKind.DUMP,
    clusterId: address.clusterId,
    clusterName: command.clusterName,
    systemIdentifier: facts.systemIdentifier,
    serverVersionNum: facts.serverVersionNum,
    operationId: request.operationId,
    startTime: timestampFromDate(startTime),
    endTime: timestampFromDate(new Date()),
    complete: missing.every(isCompleteWithout),
    tools: [
      { name: "pg_dump", version: access.tools.version },
      { name: "zstd", version: prepared.zstdVersion },
    ],
    agentVersion: request.agentVersion,
    recipe: recipeObject,
    content: {
      case: "dump",
      value: {
        globals,
        hasRolePasswords: roles.readsPasswords,
        rolesChanged: seen.rolesChanged,
        databases: dumped,
        missing: [...missing],
      },
    },
  });
  const committed = await commitManifest(storage, { prefix, manifest, signal });
  const objects = [
    recipeObject,
    ...[globals, ...dumped.map(({ stream }) => stream)].flatMap((each) => each?.objects ?? []),
  ];
  const result = create(BackupDumpResultSchema, {
    manifest,
    manifestSha256: committed.sha256,
    storedBytes: objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, BigInt(committed.sizeBytes)),
    facts,
    recipe,
  });
  return { result, failure: manifest.complete ? undefined : incomplete(missing) };
}

function incomplete(missing: readonly NotDumped[]): Failure {
  const wanted = missing.filter((each) => !isCompleteWithout(each));
  const list = wanted.map(({ name, message }) => `${JSON.stringify(name)}: ${message}`).join("; ");
  return new Failure("BACKUP_INCOMPLETE", `the backup is stored and lacks ${list}`, {
    hint: "mend what is named, or leave the database out by name, and take the backup again; what is stored can be restored",
  });
}

/**
 * Takes a dump of a cluster into a repository: preflight before a byte is written, globals, every database, the manifest
 * last. A database that fails does not stop the others. Whatever else fails, what was stored is removed again. Fails as
 * connections, tools and the storage do, with CLUSTER_CHANGED, DATABASE_NOT_FOUND, or the signal's reason.
 */
export async function dumpCluster(request: DumpRequest): Promise<Dumped> {
  const prepared = await prepareDump(request);
  try {
    return await takeDump(prepared);
  } catch (error) {
    // The operation's own signal may be aborted already.
    await clearAway(prepared, AbortSignal.timeout(cleanUpMs)).catch((trouble: unknown) => {
      const why = isFailure(trouble) ? trouble.message : "the repository did not answer in time";
      request.onLeaving(`objects below ${prepared.prefix} in ${request.storage.name}: ${why}`);
    });
    throw error;
  }
}

async function clearAway(
  { request: { storage, operationId }, prefix }: PreparedDump,
  signal: AbortSignal,
): Promise<void> {
  await removeLeavings(storage, await findLeavings(storage, { prefix, operationId, signal }), signal);
}
