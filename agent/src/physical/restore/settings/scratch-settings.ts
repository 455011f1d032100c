import { join } from "node:path";
import { lookUpUser, type OsUser } from "../../../host/os-user.ts";
import { type ExtraSettings, writeOwned } from "./configuration.ts";

/** A restored server that this agent alone uses, for a while: nobody else gets in, and nothing of it has to last. */
export interface ScratchServer {
  /** Folder of its socket, of the server's user. */
  readonly socketFolder: string;
}

/** Name of the socket's port; in a folder of its own nobody else has it. */
export const scratchPort = 5432;

/** The role that a scratch server is used as. */
export const scratchRole = "postgres";

const mapName = "coppice_scratch";

/**
 * The settings of a scratch server, over those that came with the backup: deaf to the network, silent towards everybody it
 * knew, small in memory, without a log of its own elsewhere, and quick where a crash would cost nothing but itself.
 */
export function scratchSettings({ socketFolder }: ScratchServer, major: number): ExtraSettings {
  return [
    ["port", String(scratchPort)],
    ["listen_addresses", ""],
    ["unix_socket_directories", socketFolder],
    ["unix_socket_group", ""],
    ["unix_socket_permissions", "0700"],
    ["ssl", "off"],
    ["logging_collector", "off"],
    ["log_destination", "stderr"],
    ["shared_buffers", "128MB"],
    ["huge_pages", "off"],
    ["min_dynamic_shared_memory", "0"],
    ["fsync", "off"],
    ["full_page_writes", "off"],
    ["synchronous_standby_names", ""],
    ["autovacuum", "off"],
    // Subscriptions and jobs of the source would begin to work, on what is a copy.
    ["max_logical_replication_workers", "0"],
    ["cron.launch_active_jobs", "off"],
    ["default_transaction_read_only", "on"],
    // Triggers on logins or libraries of sessions are the source's business.
    ["session_preload_libraries", ""],
    ["local_preload_libraries", ""],
    ...(major < 17
      ? []
      : ([
          ["event_triggers", "off"],
          ["summarize_wal", "off"],
        ] as const)),
  ];
}

/** Lets in the server's user and the agent's as the bootstrap role, and nobody else by any way. */
export async function writeScratchAccess(data: string, user: OsUser, signal: AbortSignal): Promise<void> {
  const self = await lookUpUser(process.geteuid?.() ?? 0, signal);
  const names = new Set([self.name, user.name]);
  await writeOwned(join(data, "pg_hba.conf"), `local all ${scratchRole} peer map=${mapName}\n`, user);
  const lines = [...names].map((name) => `${mapName} ${name} ${scratchRole}\n`);
  await writeOwned(join(data, "pg_ident.conf"), lines.join(""), user);
}
