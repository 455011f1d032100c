import { chmod, readdir, stat } from "node:fs/promises";
import { join, relative } from "node:path";

/** Every file below a folder, by its path in it, sorted; those that are still being written too. */
export async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted();
}

/** Lets everybody read what is below a folder. */
export async function letRead(path: string): Promise<void> {
  const isFolder = (await stat(path)).isDirectory();
  await chmod(path, isFolder ? 0o755 : 0o644);
  if (isFolder) for (const name of await readdir(path)) await letRead(join(path, name));
}
