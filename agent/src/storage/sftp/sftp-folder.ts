import { posix } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { isDirectory, isSymbolicLink } from "./sftp-mode.ts";
import { letGo, lookAt, makeFolderAt, openToRead, removeFolderAt, syncHandle } from "./sftp-requests.ts";
import { checkSftpRoot, type SftpRoot } from "./sftp-root.ts";
import type { SftpSession } from "./sftp-session.ts";
import { isSftpStatus, SftpStatus } from "./sftp-status.ts";

/** A repository's folder by the session that works on it. */
export interface SftpPlace {
  readonly session: SftpSession;
  readonly root: SftpRoot;
  /** Whether the server lets a folder be fsynced; without it what was made or removed in one is durable a bit later. */
  readonly syncsFolders: boolean;
}

const pathOf = ({ root }: SftpPlace, names: readonly string[]) => posix.join(root.realPath, ...names);

/**
 * Path of a folder below the root, none of whose names is a symbolic link; undefined when it is not there. Fails with
 * OBJECT_KEY_REFUSED for a link in its place.
 */
export async function findSftpFolder(
  place: SftpPlace,
  names: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const { depth } = await descend(place, names, signal);
  return depth === names.length ? pathOf(place, names) : undefined;
}

/** Path of a file of these names, which need not be there; undefined when its folder is not. */
export async function findSftpPath(
  place: SftpPlace,
  names: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const folder = await findSftpFolder(place, names.slice(0, -1), signal);
  if (folder === undefined) await checkSftpRoot(place.session, place.root, signal);
  return folder === undefined ? undefined : posix.join(folder, names.at(-1) ?? "");
}

/** How many of these folders are there, from the root on, and whether something else stands where the next would be. */
async function descend(
  place: SftpPlace,
  names: readonly string[],
  signal: AbortSignal,
): Promise<{ depth: number; isBlocked: boolean }> {
  // All at once: one round trip. What comes after the first that is no folder says nothing.
  const looks = await Promise.allSettled(
    names.map((_, index) => lookAt(place.session, pathOf(place, names.slice(0, index + 1)), signal)),
  );
  for (const [depth, look] of looks.entries()) {
    if (look.status === "rejected") throw look.reason;
    if (look.value === undefined) return { depth, isBlocked: false };
    if (isSymbolicLink(look.value)) {
      const path = pathOf(place, names.slice(0, depth + 1));
      fail("OBJECT_KEY_REFUSED", `repository ${place.root.name}: ${path} is a symbolic link, and none is followed`);
    }
    if (!isDirectory(look.value)) return { depth, isBlocked: true };
  }
  return { depth: names.length, isBlocked: false };
}

/** As findSftpFolder, making what is missing, durably where the server can; never the root itself. */
export async function makeSftpFolder(place: SftpPlace, names: readonly string[], signal: AbortSignal): Promise<string> {
  const { depth, isBlocked } = await descend(place, names, signal);
  if (isBlocked) {
    const path = pathOf(place, names.slice(0, depth + 1));
    fail("OBJECT_KEY_REFUSED", `repository ${place.root.name}: ${path} is a file, and a folder is needed there`);
  }
  const made: string[] = [];
  for (let index = depth; index < names.length; index++) {
    const path = pathOf(place, names.slice(0, index + 1));
    await makeOne(place, path, signal);
    made.push(posix.dirname(path));
  }
  // All of them at once; somebody else may have made one and not have come to its fsync.
  await Promise.all(made.map((path) => syncSftpFolder(place, path, signal)));
  return pathOf(place, names);
}

async function makeOne(place: SftpPlace, path: string, signal: AbortSignal): Promise<void> {
  try {
    await makeFolderAt(place.session, path, signal);
  } catch (error) {
    if (!isSftpStatus(error, "failure")) throw error;
    // Somebody else was faster, which the server tells by no status of its own.
    const found = await lookAt(place.session, path, signal);
    if (!found || !isDirectory(found)) throw error;
  }
}

/** Makes what was created, renamed or removed in a folder survive a crash of the server, where it lets us. */
export async function syncSftpFolder(
  { session, syncsFolders }: SftpPlace,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  if (!syncsFolders) return;
  const handle = await openToRead(session, path, signal);
  try {
    await syncHandle(session, handle, signal);
  } finally {
    letGo(session, handle);
  }
}

/** Whether the server opens a folder as a file and fsyncs it; OpenSSH's does. */
export async function canSyncFolders(session: SftpSession, path: string, signal: AbortSignal): Promise<boolean> {
  if (!session.extensions.has("fsync@openssh.com")) return false;
  try {
    // As if it could.
    const root: SftpRoot = { name: "", path, realPath: path, filesystemId: undefined };
    await syncSftpFolder({ session, root, syncsFolders: true }, path, signal);
    return true;
  } catch (error) {
    if (error instanceof SftpStatus) return false;
    throw error;
  }
}

/** The same for a folder below the root that somebody may just have pruned: then what is left above it counts. */
export async function syncNearestSftpFolder(
  place: SftpPlace,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  for (let depth = names.length; ; depth--) {
    try {
      await syncSftpFolder(place, pathOf(place, names.slice(0, depth)), signal);
      return;
    } catch (error) {
      if (!isSftpStatus(error, "noSuchFile") || depth === 0) throw error;
    }
  }
}

/** Removes the folders of these names below the root, the innermost first, as far as they are empty; durably. */
export async function pruneSftpFolders(place: SftpPlace, names: readonly string[], signal: AbortSignal): Promise<void> {
  for (let depth = names.length; depth > 0; depth--) {
    try {
      await removeFolderAt(place.session, pathOf(place, names.slice(0, depth)), signal);
    } catch (error) {
      // Not empty, which the server tells by no status of its own.
      if (isSftpStatus(error, "failure")) break;
      if (!isSftpStatus(error, "noSuchFile")) throw error;
    }
  }
  await syncNearestSftpFolder(place, names, signal);
}
