import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { openTablespaceWatch, type ReplayingServer } from "../../../postgres/wal/new-tablespaces.ts";

/**
 * Looks through the WAL that a staged data directory holds itself, which a server replays before it asks for more. Fails
 * with TABLESPACE_NOT_IN_BACKUP where a tablespace was made while the backup was taken, and its folder is not to be used.
 */
export async function requireOwnWal(server: ReplayingServer): Promise<void> {
  const folder = join(server.dataDirectory, "pg_wal");
  const watch = openTablespaceWatch(server);
  const names = await readdir(folder);
  for (const name of names.toSorted()) {
    await watch.look(join(folder, name), name);
    if (watch.refused) throw watch.refused.failure;
  }
}
