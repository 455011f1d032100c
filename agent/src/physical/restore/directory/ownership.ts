import { chown, lstat, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import type { OsUser } from "../../../host/os-user.ts";
import { syncFolder } from "../../../journal/durable-file.ts";
import { readIfThere } from "../settings/configuration.ts";
import { type Marker, stagingIn } from "../staging.ts";

/** Something that was moved out of a staging folder, known again by its inode. */
export interface MovedEntry {
  readonly path: string;
  readonly inode: string;
}

async function inodeOf(path: string): Promise<string | undefined> {
  try {
    return String((await lstat(path, { bigint: true })).ino);
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
      return undefined;
    throw error;
  }
}

/** What an entry of a staging folder will be known by in its place. */
export async function entryOf(staged: string, path: string): Promise<MovedEntry> {
  return { path, inode: (await inodeOf(staged)) ?? fail("INTERNAL", `${staged} is not there`) };
}

/** Moves it. Fails with DIRECTORY_NOT_EMPTY where something of that name is there. */
export async function moveEntry(staged: string, path: string): Promise<void> {
  if ((await inodeOf(path)) !== undefined)
    fail("DIRECTORY_NOT_EMPTY", `somebody has put ${path} there while the restore was at work`);
  await rename(staged, path);
}

/** Whether it still is what was moved there. */
export async function isAsMoved({ path, inode }: MovedEntry): Promise<boolean> {
  return (await inodeOf(path)) === inode;
}

/** Removes it where it still is what was moved there; says whether it was. */
export async function removeEntry(entry: MovedEntry): Promise<boolean> {
  if (!(await isAsMoved(entry))) return false;
  await rm(entry.path, { recursive: true, force: true });
  return true;
}

function tokenFile(folder: string, operationId: string): string {
  return `${stagingIn(folder, operationId)}.token`;
}

/** Puts the restore's token into a data directory. Fails with DIRECTORY_NOT_EMPTY where another is there. */
export async function putToken(folder: string, { operationId, token }: Marker, { uid, gid }: OsUser): Promise<void> {
  const file = tokenFile(folder, operationId);
  try {
    await writeFile(file, token, { flag: "wx", mode: 0o600, flush: true });
    if (process.geteuid?.() === 0) await chown(file, uid, gid);
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EEXIST")) throw cause;
    fail("DIRECTORY_NOT_EMPTY", `${folder} holds the token of another restore`, { cause });
  }
  await syncFolder(folder);
}

/**
 * Whether what lies in the data directory was put there by the restore: whatever else may have come to that place
 * meanwhile is nothing to stop or to remove.
 */
export async function isOwnPlace({ dataDirectory, operationId, token }: Marker): Promise<boolean> {
  return token !== "" && (await readIfThere(tokenFile(dataDirectory, operationId))) === token;
}

/** Takes the token out again: from then on the directory is its user's. */
export async function removeToken({ dataDirectory, operationId }: Marker): Promise<void> {
  await rm(tokenFile(dataDirectory, operationId), { force: true });
}

/** Whether `pg_control` came to its place, the last thing that is moved. */
export async function isWholeInPlace(marker: Marker): Promise<boolean> {
  const control = join(marker.dataDirectory, "global", "pg_control");
  return (await isOwnPlace(marker)) && (await inodeOf(control)) !== undefined;
}
