import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { PostgresConnection } from "../../postgres/connect.ts";

/** What a server says of its archiving. */
export interface ArchiverState {
  readonly systemIdentifier: string;
  readonly segmentBytes: bigint;
  /** Empty where the role may not see it. */
  readonly dataDirectory: string;
  readonly inRecovery: boolean;
  /** Of WAL that is being written, and where that ends; undefined on a standby. */
  readonly timeline: number | undefined;
  readonly insertLsn: bigint | undefined;
  /** Where what is durable of it ends; undefined on a standby. */
  readonly flushedLsn: bigint | undefined;
  /** off, on or always. */
  readonly mode: string;
  readonly library: string;
  /** In force, or to be from the next restart on. */
  readonly command: string;
  readonly timeoutSeconds: number;
  /** Files that wait to be archived; undefined where the role may not see them. */
  readonly waiting: number | undefined;
  readonly lastArchived: string;
  readonly lastArchivedUs: bigint | undefined;
  readonly failedCount: bigint;
  readonly lastFailed: string;
  readonly lastFailedUs: bigint | undefined;
}

interface StateRow {
  system_identifier: string;
  segment_bytes: string;
  data_directory: string | null;
  in_recovery: boolean;
  mode: string;
  library: string | null;
  command: string;
  timeout_seconds: string;
  last_archived: string | null;
  last_archived_us: string | null;
  failed_count: string;
  last_failed: string | null;
  last_failed_us: string | null;
  may_list: boolean;
}

/** There may be many thousands of them on a slow disk. */
const countMs = 300_000;

const microseconds = (column: string) => `(extract(epoch from ${column}) * 1000000)::bigint::text`;

/**
 * SQL: the archive_command that is in force, or would be if archive_mode were on. While it is off SHOW says "(disabled)",
 * whatever is set, and the configuration files are for superusers.
 */
export const configuredCommand = "(select coalesce(reset_val, '') from pg_settings where name = 'archive_command')";

/** Reads it; any role may. Fails like a query. */
export async function readArchiverState(connection: PostgresConnection): Promise<ArchiverState> {
  const row = await connection.queryOne<StateRow>(`
    select (select system_identifier::text from pg_control_system()) as system_identifier,
      (select setting from pg_settings where name = 'wal_segment_size') as segment_bytes,
      (select setting from pg_settings where name = 'data_directory') as data_directory,
      pg_is_in_recovery() as in_recovery,
      current_setting('archive_mode') as mode,
      current_setting('archive_library', true) as library,
      ${configuredCommand} as command,
      (select setting from pg_settings where name = 'archive_timeout') as timeout_seconds,
      last_archived_wal as last_archived, ${microseconds("last_archived_time")} as last_archived_us,
      failed_count::text as failed_count,
      last_failed_wal as last_failed, ${microseconds("last_failed_time")} as last_failed_us,
      has_function_privilege('pg_ls_archive_statusdir()', 'execute') as may_list
    from pg_stat_archiver`);
  const end = row.in_recovery
    ? undefined
    : await connection.queryOne<{ lsn: string; flushed: string; timeline: number }>(`
        select lsn::text as lsn, pg_current_wal_flush_lsn()::text as flushed, ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::int as timeline
        from (select pg_current_wal_insert_lsn() as lsn) as now`);
  const us = (text: string | null) => (text === null ? undefined : BigInt(text));
  return {
    systemIdentifier: row.system_identifier,
    segmentBytes: BigInt(row.segment_bytes),
    dataDirectory: row.data_directory ?? "",
    inRecovery: row.in_recovery,
    timeline: end?.timeline,
    insertLsn: end && parseLsn(end.lsn),
    flushedLsn: end && parseLsn(end.flushed),
    mode: row.mode,
    library: row.library ?? "",
    command: row.command,
    timeoutSeconds: Number(row.timeout_seconds),
    waiting: row.may_list ? await countWaiting(connection) : undefined,
    lastArchived: row.last_archived ?? "",
    lastArchivedUs: us(row.last_archived_us),
    failedCount: BigInt(row.failed_count),
    lastFailed: row.last_failed ?? "",
    lastFailedUs: us(row.last_failed_us),
  };
}

async function countWaiting(connection: PostgresConnection): Promise<number> {
  const { waiting } = await connection.queryOne<{ waiting: number }>(
    "select count(*)::int as waiting from pg_ls_archive_statusdir() where name like '%.ready'",
    [],
    { answerMs: countMs },
  );
  return waiting;
}
