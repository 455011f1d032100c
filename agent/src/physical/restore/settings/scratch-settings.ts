import { join } from "node:path";
import { lookUpUser, type OsUser } from "../../../host/os-user.ts";
import { type ExtraSettings, writeOwned } from "./configuration.ts";
import { type Logins, quoteLogin } from "./logins.ts";

/** A restored server that this agent alone uses, for a while: nobody else gets in, and nothing of it has to last. */
export interface ScratchServer {
  /** Folder of its socket, of the server's user. */
  readonly socketFolder: string;
}

/** Name of the socket's port; in a folder of its own nobody else has it. */
export const scratchPort = 5432;

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
    // What the source wants to keep of its WAL is not kept of its copy, whose disk may be that of the live one.
    ["wal_keep_size", "0"],
    ["max_wal_size", "2GB"],
    ["min_wal_size", "2GB"],
    ["temp_file_limit", "16GB"],
    ["fsync", "off"],
    ["full_page_writes", "off"],
    ["autovacuum", "off"],
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

/** Lets in the server's user and the agent's by the logins, and nobody else by any way. */
export async function writeScratchAccess(
  data: string,
  { user, logins, signal }: { user: OsUser; logins: Logins; signal: AbortSignal },
): Promise<void> {
  const self = await lookUpUser(process.geteuid?.() ?? 0, signal);
  const names = new Set([self.name, user.name]);
  const roles = logins.roles.map(quoteLogin);
  await writeOwned(join(data, "pg_hba.conf"), `local all ${roles.join(",")} peer map=${mapName}\n`, user);
  const lines = [...names].flatMap((name) => roles.map((role) => `${mapName} ${name} ${role}\n`));
  await writeOwned(join(data, "pg_ident.conf"), lines.join(""), user);
}
