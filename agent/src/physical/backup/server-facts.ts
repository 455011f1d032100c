import type { PostgresConnection } from "../../postgres/connect.ts";

/** What a physical backup's manifest says of its server, besides the facts of any cluster. */
export interface ServerFacts {
  readonly walSegmentBytes: bigint;
  readonly dataChecksums: boolean;
  /** Whether changes of hint bits are written to WAL: by checksums, or by wal_log_hints. */
  readonly logsHints: boolean;
  readonly dataDirectory: string;
  /** Whether it summarizes WAL, as incremental backups need it; undefined where it cannot. */
  readonly summarizesWal: boolean | undefined;
  /** What a server that replays its WAL has to match or exceed. */
  readonly requiredSettings: Readonly<Record<string, string>>;
  /** The role that initdb made, which every cluster has and may call as it likes. */
  readonly bootstrapRole: string;
  /** The database that was asked. */
  readonly database: string;
}

const required = [
  "max_connections",
  "max_locks_per_transaction",
  "max_prepared_transactions",
  "max_wal_senders",
  "max_worker_processes",
];

/** Reads them; the data directory is empty where the role may not see it. Fails like a query. */
export async function readServerFacts(connection: PostgresConnection): Promise<ServerFacts> {
  const names = [...required, "wal_segment_size", "data_checksums", "data_directory", "summarize_wal", "wal_log_hints"];
  const rows = await connection.query<{ name: string; setting: string | null }>(
    "select name, setting from pg_settings where name = any($1)",
    [names],
  );
  const { role, database } = await connection.queryOne<{ role: string | null; database: string }>(
    "select (select rolname::text from pg_roles where oid = 10) as role, current_database()::text as database",
  );
  const settings = new Map(rows.map(({ name, setting }) => [name, setting ?? ""]));
  const summarizes = settings.get("summarize_wal");
  return {
    bootstrapRole: role ?? "",
    database,
    summarizesWal: summarizes === undefined ? undefined : summarizes === "on",
    walSegmentBytes: BigInt(settings.get("wal_segment_size") ?? 0),
    dataChecksums: settings.get("data_checksums") === "on",
    logsHints: settings.get("data_checksums") === "on" || settings.get("wal_log_hints") === "on",
    dataDirectory: settings.get("data_directory") ?? "",
    requiredSettings: Object.fromEntries(required.map((name) => [name, settings.get(name) ?? ""])),
  };
}
