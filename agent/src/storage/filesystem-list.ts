import type { Dirent } from "node:fs";
import { lstat, opendir } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "./filesystem-failure.ts";
import { checkRoot, type FilesystemRoot, findFolder } from "./filesystem-root.ts";

/** A regular file below the root of a repository. */
export interface FoundFile {
  /** Its names joined by `/`. */
  readonly key: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly modifiedTime: Date;
}

/**
 * The regular files whose keys begin with `prefix`, one folder of names in memory at a time for each depth. Symbolic
 * links are neither followed nor given.
 */
export async function* listFiles(
  root: FilesystemRoot,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<FoundFile, void> {
  signal.throwIfAborted();
  await checkRoot(root);
  const names = prefix.split("/");
  const beginning = names.pop() ?? "";
  // No key holds such names, so none begins with them.
  if (names.some((name) => name === "" || name === "." || name === ".." || name.includes("\0"))) return;
  const folder = await findFolder(root, names);
  if (folder !== undefined) yield* walk(folder, names.join("/"), beginning, signal);
  await checkRoot(root);
}

async function* walk(
  folder: string,
  key: string,
  beginning: string,
  signal: AbortSignal,
): AsyncGenerator<FoundFile, void> {
  for await (const entry of entries(folder)) {
    signal.throwIfAborted();
    if (!entry.name.startsWith(beginning)) continue;
    const path = join(folder, entry.name);
    const entryKey = key === "" ? entry.name : `${key}/${entry.name}`;
    if (entry.isDirectory()) {
      yield* walk(path, entryKey, "", signal);
    } else if (entry.isFile()) {
      const found = await sizeOf(path);
      if (found) yield { key: entryKey, path, ...found };
    }
  }
}

/** Folders and files may vanish while they are listed; that is not an error of the listing. */
async function* entries(folder: string): AsyncGenerator<Dirent, void> {
  try {
    yield* await opendir(folder, { bufferSize: 256 });
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}

async function sizeOf(path: string) {
  try {
    const { size, mtime } = await lstat(path);
    return { sizeBytes: size, modifiedTime: mtime };
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
