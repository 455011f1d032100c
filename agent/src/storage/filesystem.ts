import { lstat, statfs, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { parseFileKey } from "./file-key.ts";
import { type Attempted, errorCode, filesystemFailure } from "./filesystem-failure.ts";
import { getFile } from "./filesystem-get.ts";
import { type FoundFile, listFiles } from "./filesystem-list.ts";
import { putFile } from "./filesystem-put.ts";
import { checkRoot, type FilesystemRoot, findFolder, findPath, openRoot, pruneFolders } from "./filesystem-root.ts";
import { parseObjectKey } from "./object-key.ts";
import type { ListedObject, Storage, Unfinished } from "./storage.ts";
import { parseTemporaryName } from "./temporary-name.ts";

/**
 * Opens a folder of this host as a storage. Objects are files of their keys, 0600, in folders of 0700; the folder
 * itself is never made, and one that vanished or became another is REPOSITORY_UNREACHABLE. Temporary files carry
 * `operationId` in their names.
 */
export async function openFilesystem(path: string, operationId: string): Promise<Storage> {
  const root = await openRoot(path);
  const attempt = async <T>(doing: Attempted["doing"], key: string, run: () => Promise<T>): Promise<T> => {
    try {
      return await run();
    } catch (error) {
      throw filesystemFailure(error, { doing, root: path, key });
    }
  };

  return {
    name: path,
    capabilities: { putIfAbsent: true, freeBytes: true, countsDeleted: true },
    put: (key, body, options) => attempt("write", key, () => putFile(root, operationId, key, body, options)),
    get: (key, { signal, range }) => attempt("read", key, () => getFile(root, key, range, signal)),
    stat: (key, signal) => attempt("read", key, () => statFile(root, key, signal)),
    list: (prefix, signal) => listObjects(root, prefix, signal),
    deleteMany: (keys, signal) =>
      attempt("delete", keys[0] ?? "", () => deleteFiles(root, keys.map(parseFileKey), signal)),
    listUnfinished: (prefix, signal) => listTemporaries(root, prefix, signal),
    removeUnfinished: (unfinished, signal) =>
      attempt("delete", unfinished[0]?.id ?? "", () =>
        deleteFiles(
          root,
          unfinished.map(({ id }) => parseTemporaryPath(id)),
          signal,
        ),
      ),
    freeBytes: (signal) =>
      attempt("read", "", async () => {
        signal.throwIfAborted();
        await checkRoot(root);
        const { bavail, bsize } = await statfs(root.realPath);
        return bavail * bsize;
      }),
    // It holds nothing open between its calls.
    async [Symbol.asyncDispose]() {},
  };
}

async function statFile(root: FilesystemRoot, key: string, signal: AbortSignal) {
  signal.throwIfAborted();
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

async function* listObjects(root: FilesystemRoot, prefix: string, signal: AbortSignal): AsyncGenerator<ListedObject> {
  for await (const { key, sizeBytes } of listed(root, prefix, signal)) {
    if (!isTemporary(key)) yield { key, sizeBytes };
  }
}

async function* listTemporaries(root: FilesystemRoot, prefix: string, signal: AbortSignal): AsyncGenerator<Unfinished> {
  for await (const { key, sizeBytes, modifiedTime } of listed(root, prefix, signal)) {
    const name = parseTemporaryName(key.slice(key.lastIndexOf("/") + 1));
    if (name) yield { id: key, key, operationId: name.operationId, sizeBytes, modifiedTime };
  }
}

async function* listed(root: FilesystemRoot, prefix: string, signal: AbortSignal): AsyncGenerator<FoundFile> {
  try {
    yield* listFiles(root, prefix, signal);
  } catch (error) {
    throw filesystemFailure(error, { doing: "list", root: root.path, key: prefix });
  }
}

const isTemporary = (key: string) => parseTemporaryName(key.slice(key.lastIndexOf("/") + 1)) !== undefined;

function parseTemporaryPath(id: string): string[] {
  const names = parseObjectKey(id);
  if (!isTemporary(id)) fail("OBJECT_KEY_REFUSED", `${JSON.stringify(id)} is not a file that was being written`);
  return names;
}

/** Removes files, and the folders that became empty; what resolved is gone for good. */
async function deleteFiles(root: FilesystemRoot, files: readonly string[][], signal: AbortSignal): Promise<number> {
  signal.throwIfAborted();
  await checkRoot(root);
  let deleted = 0;
  const touched = new Map<string, string[]>();
  for (const names of files) {
    signal.throwIfAborted();
    const folders = names.slice(0, -1);
    const folder = await findFolder(root, folders);
    if (folder === undefined || !(await removeFile(join(folder, names.at(-1) ?? "")))) continue;
    deleted++;
    touched.set(folder, folders);
  }
  for (const folders of touched.values()) await pruneFolders(root, folders);
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
