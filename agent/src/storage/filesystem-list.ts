import type { Dirent } from "node:fs";
import { lstat, opendir } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "./filesystem-failure.ts";
import { checkRoot, type FilesystemRoot, findFolder } from "./filesystem-root.ts";
import type { Watched } from "./filesystem-watch.ts";

/** A regular file below the root of a repository. */
export interface FoundFile {
  /** Its names joined by `/`. */
  readonly key: string;
  readonly sizeBytes: number;
  readonly modifiedTime: Date;
}

/** What is listed. */
export interface Listing {
  /** What the keys begin with. */
  readonly prefix: string;
  /** Which files, by their last names. Nothing more is asked about others. */
  readonly wants: (name: string) => boolean;
  /** Each look at the file system is one call of it: all of them together may rightly take hours. */
  readonly ask: Watched["ask"];
}

const namesAtOnce = 256;

/**
 * The regular files of a listing, with some hundreds of names in memory for each depth of folders. Symbolic links are
 * neither followed nor given.
 */
export async function* listFiles(root: FilesystemRoot, listing: Listing): AsyncGenerator<FoundFile, void> {
  const { prefix, ask } = listing;
  await ask(() => checkRoot(root));
  const names = prefix.split("/");
  const beginning = names.pop() ?? "";
  // No key holds such names, so none begins with them.
  if (names.some((name) => name === "" || name === "." || name === ".." || name.includes("\0"))) return;
  const folder = await ask(() => findFolder(root, names));
  if (folder !== undefined) yield* walk(listing, { folder, key: names.join("/"), beginning });
  await ask(() => checkRoot(root));
}

async function* walk(
  listing: Listing,
  { folder, key, beginning }: { folder: string; key: string; beginning: string },
): AsyncGenerator<FoundFile, void> {
  const { wants, ask } = listing;
  for await (const entry of inTurns(entries(folder), ask)) {
    if (!entry.name.startsWith(beginning)) continue;
    const path = join(folder, entry.name);
    const entryKey = key === "" ? entry.name : `${key}/${entry.name}`;
    if (entry.isDirectory()) {
      yield* walk(listing, { folder: path, key: entryKey, beginning: "" });
    } else if (entry.isFile() && wants(entry.name)) {
      const found = await ask(() => sizeOf(path));
      if (found) yield { key: entryKey, ...found };
    }
  }
}

/** Some at a time: a call for each would cost more than reading it. */
async function* inTurns<T>(items: AsyncGenerator<T, void>, ask: Watched["ask"]): AsyncGenerator<T, void> {
  try {
    for (;;) {
      const some = await ask(() => take(items, namesAtOnce));
      yield* some;
      if (some.length < namesAtOnce) return;
    }
  } finally {
    // It waits for what is under way, which may hang.
    items.return().catch(() => {});
  }
}

async function take<T>(items: AsyncGenerator<T, void>, most: number): Promise<T[]> {
  const taken: T[] = [];
  while (taken.length < most) {
    const next = await items.next();
    if (next.done) break;
    taken.push(next.value);
  }
  return taken;
}

/** Folders and files may vanish while they are listed; that is not an error of the listing. */
async function* entries(folder: string): AsyncGenerator<Dirent, void> {
  try {
    yield* await opendir(folder, { bufferSize: namesAtOnce });
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
