import { posix } from "node:path";
import type { FileEntry } from "ssh2";
import { findSftpFolder, type SftpPlace } from "./sftp-folder.ts";
import { isDirectory, isRegularFile } from "./sftp-mode.ts";
import { letGo, openFolder, readEntries } from "./sftp-requests.ts";
import { checkSftpRoot } from "./sftp-root.ts";
import { isSftpStatus } from "./sftp-status.ts";

/** A regular file below the root of a repository. */
export interface FoundBySftp {
  /** Its names joined by `/`. */
  readonly key: string;
  readonly sizeBytes: number;
  readonly modifiedTime: Date;
}

/**
 * The regular files whose keys begin with `prefix`, one answer of the server in memory at a time for each depth. Symbolic
 * links are neither followed nor given.
 */
export async function* listBySftp(
  place: SftpPlace,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<FoundBySftp, void> {
  signal.throwIfAborted();
  await checkSftpRoot(place.session, place.root, signal);
  const names = prefix.split("/");
  const beginning = names.pop() ?? "";
  // No key holds such names, so none begins with them.
  if (names.some((name) => name === "" || name === "." || name === ".." || name.includes("\0"))) return;
  const folder = await findSftpFolder(place, names, signal);
  if (folder !== undefined) yield* walk(place, { folder, key: names.join("/"), beginning }, signal);
  await checkSftpRoot(place.session, place.root, signal);
}

async function* walk(
  place: SftpPlace,
  { folder, key, beginning }: { folder: string; key: string; beginning: string },
  signal: AbortSignal,
): AsyncGenerator<FoundBySftp, void> {
  for await (const { filename, attrs } of entries(place, folder, signal)) {
    if (!filename.startsWith(beginning)) continue;
    const entryKey = key === "" ? filename : `${key}/${filename}`;
    if (isDirectory(attrs)) {
      yield* walk(place, { folder: posix.join(folder, filename), key: entryKey, beginning: "" }, signal);
    } else if (isRegularFile(attrs)) {
      yield { key: entryKey, sizeBytes: attrs.size, modifiedTime: new Date(attrs.mtime * 1000) };
    }
  }
}

/** Folders may vanish while they are listed; that is not an error of the listing. */
async function* entries({ session }: SftpPlace, folder: string, signal: AbortSignal): AsyncGenerator<FileEntry, void> {
  let handle: Buffer;
  try {
    handle = await openFolder(session, folder, signal);
  } catch (error) {
    if (isSftpStatus(error, "noSuchFile")) return;
    throw error;
  }
  try {
    for (;;) {
      const some = await readEntries(session, handle, signal);
      if (some === undefined) return;
      for (const entry of some) {
        signal.throwIfAborted();
        yield entry;
      }
    }
  } finally {
    letGo(session, handle);
  }
}
