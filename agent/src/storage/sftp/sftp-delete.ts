import { posix } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { findSftpFolder, pruneSftpFolders, type SftpPlace } from "./sftp-folder.ts";
import { isDirectory } from "./sftp-mode.ts";
import { lookAt, removeFileAt } from "./sftp-requests.ts";
import { checkSftpRoot } from "./sftp-root.ts";
import { SftpStatus } from "./sftp-status.ts";

const removedAtOnce = 64;

/** Removes files, and the folders that became empty; says how many files there were. */
export async function deleteBySftp(place: SftpPlace, files: readonly string[][], signal: AbortSignal): Promise<number> {
  signal.throwIfAborted();
  await checkSftpRoot(place.session, place.root, signal);
  const byFolder = Map.groupBy(files, (names) => names.slice(0, -1).join("/"));
  let deleted = 0;
  for (const group of byFolder.values()) {
    const folders = group[0]?.slice(0, -1) ?? [];
    const folder = await findSftpFolder(place, folders, signal);
    if (folder === undefined) continue;
    let removed = 0;
    for (let index = 0; index < group.length; index += removedAtOnce) {
      const some = group.slice(index, index + removedAtOnce);
      const outcomes = await Promise.allSettled(some.map((names) => remove(place, folder, names, signal)));
      for (const outcome of outcomes) {
        if (outcome.status === "rejected") throw outcome.reason;
        if (outcome.value) removed++;
      }
    }
    if (removed > 0) await pruneSftpFolders(place, folders, signal);
    deleted += removed;
  }
  return deleted;
}

async function remove(place: SftpPlace, folder: string, names: readonly string[], signal: AbortSignal) {
  const path = posix.join(folder, names.at(-1) ?? "");
  try {
    return await removeFileAt(place.session, path, signal);
  } catch (error) {
    if (!(error instanceof SftpStatus)) throw error;
    // A server has no status of its own for a folder where it wants a file.
    const there = await lookAt(place.session, path, signal);
    if (!there || !isDirectory(there)) throw error;
    return fail("OBJECT_KEY_REFUSED", `repository ${place.root.name}: ${names.join("/")} is a folder`, {
      cause: error,
    });
  }
}
