import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { OsUser } from "../../../host/os-user.ts";
import { runProgram } from "../../../host/run.ts";
import { type ServerPrograms, serverProgram } from "../server-programs.ts";

/** Syncs a data directory and its tablespaces, every file and folder. */
export async function syncTree(
  data: string,
  {
    programs,
    user,
    signal,
  }: { readonly programs: ServerPrograms; readonly user: OsUser; readonly signal: AbortSignal },
): Promise<void> {
  const args = ["--sync-only", `--pgdata=${data}`];
  await runProgram({ file: serverProgram(programs, "initdb"), args, user }, { signal });
}

/** Folders of a data directory that only a server writes into. */
const ofServer = new Set(
  (
    "base global pg_commit_ts pg_dynshmem pg_logical pg_multixact pg_notify pg_replslot pg_serial pg_snapshots pg_stat " +
    "pg_stat_tmp pg_subtrans pg_tblspc pg_twophase pg_wal pg_xact"
  ).split(" "),
);

/**
 * Syncs what a restore may have written into a data directory that was synced before: its own files, and the folders
 * that are no server's. All over again it would take as long as the first time: a disk is asked to empty its cache for
 * each file, whatever has become of it.
 */
export async function syncSettings(data: string): Promise<void> {
  const folders = [data];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isFile()) await sync(path);
      else if (entry.isDirectory() && !(folder === data && ofServer.has(entry.name))) folders.push(path);
    }
    await sync(folder);
  }
}

async function sync(path: string): Promise<void> {
  await using file = await open(path, "r");
  await file.sync();
}
