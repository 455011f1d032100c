import { lstat, statfs, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { parseFileKey } from "./file-key.ts";
import { type Attempted, errorCode, filesystemFailure } from "./filesystem-failure.ts";
import { getFile } from "./filesystem-get.ts";
import { type FoundFile, type Listing, listFiles } from "./filesystem-list.ts";
import { putFile } from "./filesystem-put.ts";
import { checkRoot, type FilesystemRoot, findFolder, findPath, openRoot, pruneFolders } from "./filesystem-root.ts";
import { type FilesystemPatience, usualFilesystemPatience, type Watched, watchFilesystem } from "./filesystem-watch.ts";
import { parseObjectKey } from "./object-key.ts";
import type { ByteRange, ListedObject, Storage, Unfinished } from "./storage.ts";
import { parseTemporaryName } from "./temporary-name.ts";

/** How a folder is opened. */
export interface FilesystemAccess {
  readonly signal?: AbortSignal;
  readonly patience?: FilesystemPatience;
}

/**
 * Opens a folder of this host as a storage. Objects are files of their keys, 0600, in folders of 0700; the folder
 * itself is never made, and one that vanished or became another is REPOSITORY_UNREACHABLE. Temporary files carry
 * `operationId` in their names. No call waits for a file system that hangs longer than `patience`.
 */
export async function openFilesystem(
  path: string,
  operationId: string,
  { signal: opening = new AbortController().signal, patience = usualFilesystemPatience }: FilesystemAccess = {},
): Promise<Storage> {
  const watch = <T>(signal: AbortSignal, work: (watched: Watched) => Promise<T>) =>
    watchFilesystem({ path, patience, signal }, work);
  const one = <T>(signal: AbortSignal, call: () => Promise<T>) => watch(signal, ({ ask }) => ask(call));
  const root = await one(opening, () => openRoot(path));
  const attempt = async <T>(doing: Attempted["doing"], key: string, run: () => Promise<T>): Promise<T> => {
    try {
      return await run();
    } catch (error) {
      throw filesystemFailure(error, { doing, root: path, key });
    }
  };
  /** Each look of a listing by itself: whoever reads it may take his time. */
  const each =
    (signal: AbortSignal): Watched["ask"] =>
    (call) =>
      one(signal, call);

  const open = (key: string, signal: AbortSignal, range?: ByteRange) =>
    attempt("read", key, () => getFile(root, key, { range, signal }, (work) => watch(signal, work)));

  return {
    name: path,
    capabilities: {
      putIfAbsent: true,
      putIfAbsentBytes: Infinity,
      freeBytes: true,
      countsDeleted: true,
      keepsDigests: false,
      comparesPuts: false,
    },
    put: (key, body, options) =>
      attempt("write", key, () =>
        putFile(root, { operationId, key, body, options }, (work) => watch(options.signal, work)),
      ),
    get: async (key, { signal, range }) => (await open(key, signal, range)).bytes,
    getFile: (key, signal) => open(key, signal),
    stat: (key, signal) => attempt("read", key, () => one(signal, () => statFile(root, key))),
    list: (prefix, signal) => listObjects(root, prefix, each(signal)),
    deleteMany: (keys, signal) =>
      attempt("delete", keys[0] ?? "", () =>
        watch(signal, (watched) => deleteFiles(root, keys.map(parseFileKey), watched)),
      ),
    listUnfinished: (prefix, signal) => listTemporaries(root, prefix, each(signal)),
    removeUnfinished: (unfinished, signal) =>
      attempt("delete", unfinished[0]?.id ?? "", () => {
        const files = unfinished.map(({ id }) => parseTemporaryPath(id));
        return watch(signal, (watched) => deleteFiles(root, files, watched));
      }),
    freeBytes: (signal) =>
      attempt("read", "", () =>
        one(signal, async () => {
          await checkRoot(root);
          const { bavail, bsize } = await statfs(root.realPath);
          return bavail * bsize;
        }),
      ),
    // It holds nothing open between its calls.
    async [Symbol.asyncDispose]() {},
  };
}

async function statFile(root: FilesystemRoot, key: string) {
  const path = await findPath(root, parseFileKey(key));
  if (path === undefined) return undefined;
  try {
    const found = await lstat(path);
    if (found.isSymbolicLink()) fail("OBJECT_KEY_REFUSED", `repository ${root.path}: ${key} is a symbolic link`);
    return found.isFile() ? { sizeBytes: found.size } : undefined;
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
    await checkRoot(root);
    return undefined;
  }
}

async function* listObjects(
  root: FilesystemRoot,
  prefix: string,
  ask: Watched["ask"],
): AsyncGenerator<ListedObject, void> {
  const wants = (name: string) => !isTemporary(name);
  for await (const { key, sizeBytes } of listed(root, { prefix, wants, ask })) yield { key, sizeBytes };
}

async function* listTemporaries(
  root: FilesystemRoot,
  prefix: string,
  ask: Watched["ask"],
): AsyncGenerator<Unfinished, void> {
  for await (const { key, sizeBytes, modifiedTime } of listed(root, { prefix, wants: isTemporary, ask })) {
    const operationId = parseTemporaryName(lastName(key))?.operationId;
    yield { id: key, key, operationId, sizeBytes, modifiedTime };
  }
}

async function* listed(root: FilesystemRoot, listing: Listing): AsyncGenerator<FoundFile, void> {
  try {
    yield* listFiles(root, listing);
  } catch (error) {
    throw filesystemFailure(error, { doing: "list", root: root.path, key: listing.prefix });
  }
}

const lastName = (key: string) => key.slice(key.lastIndexOf("/") + 1);
const isTemporary = (name: string) => parseTemporaryName(name) !== undefined;

function parseTemporaryPath(id: string): string[] {
  const names = parseObjectKey(id);
  if (!isTemporary(lastName(id)))
    fail("OBJECT_KEY_REFUSED", `${JSON.stringify(id)} is not a file that was being written`);
  return names;
}

/** Removes files, and the folders that became empty; what resolved is gone for good. */
async function deleteFiles(root: FilesystemRoot, files: readonly string[][], { ask, clear }: Watched): Promise<number> {
  await ask(() => checkRoot(root));
  let deleted = 0;
  const touched = new Map<string, string[]>();
  for (const names of files) {
    const folders = names.slice(0, -1);
    const folder = await ask(async () => {
      const found = await findFolder(root, folders);
      return found !== undefined && (await removeFile(join(found, names.at(-1) ?? ""))) ? found : undefined;
    });
    if (folder === undefined) continue;
    deleted++;
    touched.set(folder, folders);
  }
  for (const folders of touched.values()) await clear(() => pruneFolders(root, folders));
  return deleted;
}

async function removeFile(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
    return false;
  }
}
