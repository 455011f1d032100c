import type { PostgresConnection } from "../connect.ts";

/** Settings that physical backups and received WAL depend on, and what of their limits is used. */
export interface ServerSettings {
  readonly walLevel: string;
  readonly maxSenders: number;
  readonly usedSenders: number;
  readonly maxSlots: number;
  readonly usedSlots: number;
  /** Slots that nobody uses at the moment. */
  readonly idleSlots: readonly string[];
  readonly slotNames: readonly string[];
  readonly dataChecksums: boolean;
  /** Whether changes of hint bits are written to WAL: by checksums, or by wal_log_hints. */
  readonly logsHints: boolean;
  /** Undefined where the server cannot summarize WAL. */
  readonly summarizesWal: boolean | undefined;
  /** Undefined: no limit. */
  readonly slotLimitBytes: bigint | undefined;
  /** Slots that nobody uses for a time are given up. */
  readonly endsIdleSlots: boolean;
  readonly maxWalBytes: bigint;
  readonly archiveMode: string;
  readonly archiveCommand: string;
  readonly archiveLibrary: string;
  /** Names of settings that were changed and wait for a restart. */
  readonly pending: ReadonlySet<string>;
  /** Whether the login role may open replication connections. */
  readonly mayReplicate: boolean;
}

interface UsageRow {
  readonly senders: string;
  readonly slots: readonly string[];
  readonly idle: readonly string[];
  readonly mayReplicate: boolean;
}

const mebibyte = 1024n * 1024n;
const names = [
  "archive_command",
  "archive_library",
  "archive_mode",
  "data_checksums",
  "idle_replication_slot_timeout",
  "max_replication_slots",
  "max_slot_wal_keep_size",
  "max_wal_senders",
  "max_wal_size",
  "summarize_wal",
  "wal_level",
  "wal_log_hints",
];

/** Reads them; any role may. Fails like a query. */
export async function readServerSettings(connection: PostgresConnection): Promise<ServerSettings> {
  const rows = await connection.query<{ name: string; setting: string | null; pending: boolean }>(
    "select name, setting, pending_restart as pending from pg_settings where name = any($1)",
    [names],
  );
  const settings = new Map(rows.map(({ name, setting }) => [name, setting ?? ""]));
  const usage = await connection.queryOne<UsageRow>(`
    select (select count(*) from pg_stat_replication) as senders,
      coalesce((select array_agg(slot_name::text order by slot_name) from pg_replication_slots), '{}') as slots,
      coalesce((select array_agg(slot_name::text order by slot_name) from pg_replication_slots where not active), '{}') as idle,
      (select rolreplication or rolsuper from pg_roles where rolname = current_user) as "mayReplicate"`);
  const text = (name: string) => settings.get(name) ?? "";
  const summarizes = settings.get("summarize_wal");
  const slotLimit = BigInt(text("max_slot_wal_keep_size") || -1);
  return {
    walLevel: text("wal_level"),
    maxSenders: Number(text("max_wal_senders")),
    usedSenders: Number(usage.senders),
    maxSlots: Number(text("max_replication_slots")),
    usedSlots: usage.slots.length,
    idleSlots: usage.idle,
    slotNames: usage.slots,
    dataChecksums: text("data_checksums") === "on",
    logsHints: text("data_checksums") === "on" || text("wal_log_hints") === "on",
    summarizesWal: summarizes === undefined ? undefined : summarizes === "on",
    slotLimitBytes: slotLimit < 0n ? undefined : slotLimit * mebibyte,
    endsIdleSlots: Number(text("idle_replication_slot_timeout") || 0) > 0,
    maxWalBytes: BigInt(text("max_wal_size") || 0) * mebibyte,
    archiveMode: text("archive_mode"),
    archiveCommand: text("archive_command"),
    archiveLibrary: text("archive_library"),
    pending: new Set(rows.filter(({ pending }) => pending).map(({ name }) => name)),
    mayReplicate: usage.mayReplicate,
  };
}
