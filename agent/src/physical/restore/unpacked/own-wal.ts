import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { openTablespaceWatch, type ReplayingServer } from "../../../postgres/wal/new-tablespaces.ts";

/**
 * Looks through the WAL that a staged data directory holds itself, which a server replays before it asks for more. Fails
 * with TABLESPACE_NOT_IN_BACKUP where a tablespace was made while the backup was taken, and its folder is not to be used.
 */
export async function requireOwnWal(server: ReplayingServer, signal: AbortSignal): Promise<void> {
  const folder = join(server.dataDirectory, "pg_wal");
  const watch = openTablespaceWatch(server);
  const names = await readdir(folder);
  for (const name of names.toSorted()) {
    signal.throwIfAborted();
    const seen = await watch.look(join(folder, name), name);
    if (seen) await watch.admit(seen);
    if (watch.refused) throw watch.refused;
  }
}
