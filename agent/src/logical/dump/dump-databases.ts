import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type DumpedDatabase, DumpedDatabaseSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { formatDuration } from "@coppice/proto/kit/duration";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import type { ClusterDatabase } from "../databases.ts";
import { pgDumpArguments } from "./dump-options.ts";
import { storeDump } from "./dump-stream.ts";
import type { ReportDump } from "./dump-progress.ts";
import { connectForDump, type PreparedDump } from "./prepare-dump.ts";
import { withStatementLimit } from "./statement-limit.ts";

/** A database whose dump failed. */
export interface FailedDatabase {
  readonly database: ClusterDatabase;
  readonly error: Failure;
}

/** Trouble with the repository, or of our own making, ends the backup; all else is one database's trouble. */
export function endsBackup(error: unknown): boolean {
  return !isFailure(error) || /^(REPOSITORY|OBJECT|DIGEST|OS_USER|PROGRAM_MISSING)/.test(error.reason);
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

/** Runs a dumping program of that application name under the limits of the options, its output into a stream. */
export async function storeLimited(
  prepared: PreparedDump,
  dump: Omit<Parameters<typeof storeDump>[1], "prefix" | "encoding" | "log">,
  applicationName: string,
): Promise<StoredStream> {
  const { encoding, options, prefix, request } = prepared;
  const store = (signal: AbortSignal) =>
    storeDump(request.storage, { ...dump, prefix, encoding, log: request.log, signal });
  try {
    if (options.statementTimeoutMs === undefined) return await store(dump.signal);
    await using connection = await connectForDump(prepared, dump.signal);
    const limit = { applicationName, limitMs: options.statementTimeoutMs, signal: dump.signal };
    return await withStatementLimit(connection, limit, store);
  } catch (error) {
    throw isLockTimeout(error) ? lockTimeout(options.lockWaitMs, error) : error;
  }
}

async function dumpDatabase(
  prepared: PreparedDump,
  database: ClusterDatabase,
  { signal, onWritten }: { signal: AbortSignal; onWritten: (bytes: number) => void },
): Promise<DumpedDatabase> {
  const { access, options } = prepared;
  const position = await readPosition(prepared, signal);
  const applicationName = `coppice ${prepared.address.backupId} ${database.oid}`;
  const args = pgDumpArguments(options, access.tools.major);
  const stream = await storeLimited(
    prepared,
    {
      program: access.connecting("pg_dump", database.name, args, applicationName),
      name: `db/${database.oid}.${options.format === "custom" ? "dump" : "sql"}`,
      signal,
      onWritten,
    },
    applicationName,
  );
  return create(DumpedDatabaseSchema, {
    oid: database.oid,
    name: database.name,
    format: options.format,
    stream,
    snapshotLsn: position.lsn,
    snapshotTime: timestampFromDate(position.time),
    sizeBytes: database.sizeBytes ?? 0n,
    properties: database.properties,
    roles: [...database.roles],
    tablespaces: [...database.tablespaces],
  });
}

/**
 * Dumps the chosen databases within the limit of jobs; gives them in the order of the list, and the error of each that
 * failed. Fails with what ends the whole backup: trouble of the repository, or the signal's reason.
 */
export async function dumpDatabases(
  prepared: PreparedDump,
  report: ReportDump,
): Promise<{ dumped: DumpedDatabase[]; failed: FailedDatabase[] }> {
  const { chosen } = prepared.chosen;
  const dumped = new Map<number, DumpedDatabase>();
  const failed: FailedDatabase[] = [];
  using all = linkSignals(prepared.request.signal);
  const queue = chosen.values();

  async function work(): Promise<void> {
    for (const database of queue) {
      const { name } = database;
      try {
        const onWritten = (bytes: number) => report(name, bytes);
        dumped.set(database.oid, await dumpDatabase(prepared, database, { signal: all.signal, onWritten }));
      } catch (error) {
        all.signal.throwIfAborted();
        if (endsBackup(error) || !isFailure(error)) {
          all.abort(error);
          throw error;
        }
        failed.push({ database, error });
        prepared.request.log(`the dump of ${JSON.stringify(name)} failed: ${error.message}`);
      }
      report(name, "done");
    }
  }

  const jobs = Math.min(prepared.options.jobs, chosen.length);
  const ends = await Promise.allSettled(Array.from({ length: jobs }, work));
  const broken = ends.find((end) => end.status === "rejected");
  if (broken) throw all.signal.aborted ? all.signal.reason : broken.reason;
  return { dumped: chosen.flatMap(({ oid }) => dumped.get(oid) ?? []), failed };
}
