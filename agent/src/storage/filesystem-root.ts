import { constants } from "node:fs";
import { lstat, mkdir, open, realpath, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { fail, Failure } from "@coppice/proto/kit/failure";
import { errorCode, filesystemFailure } from "./filesystem-failure.ts";

/** The folder of a filesystem repository, as it was when it was opened. */
export interface FilesystemRoot {
  /** As it was given, for messages. */
  readonly path: string;
  /** Without symbolic links. */
  readonly realPath: string;
  /** Device and inode: another folder in its place (an unmounted disk's mount point) is not the repository. */
  readonly dev: bigint;
  readonly ino: bigint;
}

/** Looks at the folder of a repository. Fails with REPOSITORY_UNREACHABLE, REPOSITORY_NOT_READABLE. */
export async function openRoot(path: string): Promise<FilesystemRoot> {
  try {
    const realPath = await realpath(path);
    const found = await stat(realPath, { bigint: true });
    if (!found.isDirectory()) fail("REPOSITORY_UNREACHABLE", `repository ${path} is not a folder`);
    return { path, realPath, dev: found.dev, ino: found.ino };
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") throw gone(path, error);
    throw filesystemFailure(error, { doing: "read", root: path, key: "" });
  }
}

/** Fails with REPOSITORY_UNREACHABLE when the folder has vanished or is another one now. */
export async function checkRoot(root: FilesystemRoot): Promise<void> {
  const now = await openRoot(root.path);
  if (now.dev !== root.dev || now.ino !== root.ino) {
    fail("REPOSITORY_UNREACHABLE", `repository ${root.path} is not the folder any more that it was a moment ago`);
  }
}

function gone(path: string, cause: unknown): Failure {
  return new Failure("REPOSITORY_UNREACHABLE", `repository ${path} does not exist on this host`, {
    metadata: { errno: "ENOENT" },
    cause,
  });
}

/**
 * Path of a folder below the root, none of whose names is a symbolic link; undefined when it is not there. Fails with
 * OBJECT_KEY_REFUSED for a link in its place.
 */
export async function findFolder(root: FilesystemRoot, names: readonly string[]): Promise<string | undefined> {
  let path = root.realPath;
  for (const name of names) {
    path = join(path, name);
    if (!(await isFolder(root, path))) return undefined;
  }
  return path;
}

/** Path of a file of these names, which need not be there; undefined when its folder is not. */
export async function findPath(root: FilesystemRoot, names: readonly string[]): Promise<string | undefined> {
  const folder = await findFolder(root, names.slice(0, -1));
  if (folder === undefined) await checkRoot(root);
  return folder === undefined ? undefined : join(folder, names.at(-1) ?? "");
}

/** Path of a folder in another one that is no symbolic link either; makes it where it is missing, durably. */
export async function makeFolder(root: FilesystemRoot, parent: string, name: string): Promise<string> {
  const path = join(parent, name);
  if (!(await isFolder(root, path))) await makeOne(parent, path);
  return path;
}

async function makeOne(parent: string, path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    // Somebody else was faster, and may not have come to the fsync; a file of that name shows at the next step.
    if (errorCode(error) !== "EEXIST") throw error;
  }
  await syncFolder(parent);
}

async function isFolder(root: FilesystemRoot, path: string): Promise<boolean> {
  try {
    const found = await lstat(path);
    if (found.isSymbolicLink()) {
      fail("OBJECT_KEY_REFUSED", `repository ${root.path}: ${path} is a symbolic link, and none is followed`);
    }
    return found.isDirectory();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw error;
  }
}

/** Makes what was created, renamed or removed in a folder survive a crash. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await folder.sync();
}

/** The same for a folder below the root that somebody may just have pruned: then what is left above it counts. */
export async function syncNearest(root: FilesystemRoot, names: readonly string[]): Promise<void> {
  for (let depth = names.length; ; depth--) {
    try {
      await syncFolder(join(root.realPath, ...names.slice(0, depth)));
      return;
    } catch (error) {
      if (errorCode(error) !== "ENOENT" || depth === 0) throw error;
    }
  }
}

/** Removes the folders of these names below the root, the innermost first, as far as they are empty; durably. */
export async function pruneFolders(root: FilesystemRoot, names: readonly string[]): Promise<void> {
  for (let depth = names.length; depth > 0; depth--) {
    try {
      await rmdir(join(root.realPath, ...names.slice(0, depth)));
    } catch (error) {
      const code = errorCode(error);
      if (code === "ENOTEMPTY" || code === "EEXIST") break;
      if (code !== "ENOENT") throw error;
    }
  }
  await syncNearest(root, names);
}
