import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, open, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import { parseFileKey } from "./file-key.ts";
import { errorCode } from "./filesystem-failure.ts";
import { freeChunk } from "../host/free-chunk.ts";
import { checkRoot, type FilesystemRoot, makeFolder, pruneFolders, syncNearest } from "./filesystem-root.ts";
import type { Watch, Watched } from "./filesystem-watch.ts";
import { releaseBody } from "./release-body.ts";
import type { Body, PutOptions } from "./storage.ts";
import { formatTemporaryName } from "./temporary-name.ts";

/**
 * Stores one object; see Storage.put. `watch` does the work and may give it up. Errors are those of the operating system
 * where they are not Failures.
 */
export async function putFile(
  root: FilesystemRoot,
  { operationId, key, body, options }: { operationId: string; key: string; body: Body; options: PutOptions },
  watch: Watch,
): Promise<{ sizeBytes: number }> {
  const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]();
  try {
    return await watch((watched) => writeAndPublish(root, operationId, parseFileKey(key), chunks, options, watched));
  } finally {
    releaseBody(body, chunks);
  }
}

async function writeAndPublish(
  root: FilesystemRoot,
  operationId: string,
  names: readonly string[],
  chunks: AsyncIterator<Uint8Array>,
  { ifAbsent, ownsChunks = false }: PutOptions,
  watched: Watched,
): Promise<{ sizeBytes: number }> {
  const { ask, clear } = watched;
  const folders = names.slice(0, -1);
  await ask(() => checkRoot(root));
  const place: Place = { reached: [], temporary: undefined };
  let isThere = false;
  try {
    const { file, temporary } = await openTemporary(root, { operationId, folders, place }, ask);
    let sizeBytes: number;
    try {
      sizeBytes = await writeBody(file, chunks, { watched, ownsChunks });
      await ask(() => file.sync());
    } finally {
      await clear(() => file.close());
    }
    await ask(async () => {
      const target = join(dirname(temporary), names.at(-1) ?? "");
      // From its name on others may rely on it, who meet it as theirs: it stays, also when what comes next fails.
      if (ifAbsent) await linkNew(root, names, { temporary, target });
      else await rename(temporary, target);
      isThere = true;
      if (ifAbsent) await unlink(temporary);
      await syncNearest(root, folders);
    });
    return { sizeBytes };
  } catch (error) {
    const { reached, temporary } = place;
    await clear(async () => {
      if (temporary !== undefined) await quietly(() => unlink(temporary));
      // Folders that were made for it alone; who makes a file in one of them meanwhile makes the folder once more.
      if (!isThere && reached.length > 0) await quietly(() => pruneFolders(root, reached));
    });
    throw error;
  }
}

/** How far a put has come: what has to go if it fails. */
interface Place {
  /** The names of its folders, as far as they were found or made. */
  reached: string[];
  /** Path of its file until that has its name. */
  temporary: string | undefined;
}

/** Unlike rename(2), link(2) never replaces what is there; who is told that it is may rely on it. */
async function linkNew(
  root: FilesystemRoot,
  names: readonly string[],
  { temporary, target }: { readonly temporary: string; readonly target: string },
): Promise<void> {
  try {
    await link(temporary, target);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    // Who has put it there may not have come to the fsync.
    await syncNearest(root, names.slice(0, -1));
    fail("OBJECT_EXISTS", `repository ${root.path}: ${names.join("/")} exists already`, { cause: error });
  }
}

/**
 * A folder may be pruned between being made and being used, by whoever deletes the last object in it. Each is asked for by
 * itself: a busy disk takes its time for the sync of each.
 */
async function openTemporary(
  root: FilesystemRoot,
  { operationId, folders, place }: { operationId: string; folders: readonly string[]; place: Place },
  ask: Watched["ask"],
) {
  const flags = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;
  for (let attempt = 1; ; attempt++) {
    const name = formatTemporaryName({ operationId, unique: randomBytes(8).toString("hex") });
    try {
      let folder = root.realPath;
      place.reached = [];
      for (const next of folders) {
        const parent = folder;
        folder = await ask(() => makeFolder(root, parent, next));
        place.reached.push(next);
      }
      const temporary = join(folder, name);
      const file = await ask(() => open(temporary, flags, 0o600));
      place.temporary = temporary;
      return { temporary, file };
    } catch (error) {
      if (errorCode(error) !== "ENOENT" || attempt === 10) throw error;
      await ask(() => checkRoot(root));
    }
  }
}

async function quietly(clearAway: () => Promise<void>): Promise<void> {
  try {
    await clearAway();
  } catch (error) {
    // The first error says more; a file that stays is found again by its name.
    if (errorCode(error) === undefined) throw error;
  }
}

const gatherBytes = 1 << 20;
/** So much is on its way to the disk while more comes in, instead of all of it waiting for the sync at the end. */
const syncEveryBytes = 32 << 20;
/** More waits for the sync that is under way: what a slow disk gets at once it must be able to sync while one call may last. */
const mostUnsyncedBytes = 128 << 20;

/**
 * One write is under way while the next bytes come in: about two buffers of 1 MiB, or two chunks, are held. Syncs run
 * beside; the error of one must not be lost, since the system tells it only once.
 */
async function writeBody(
  file: FileHandle,
  chunks: AsyncIterator<Uint8Array>,
  { watched, ownsChunks }: { watched: Watched; ownsChunks: boolean },
): Promise<number> {
  const { signal, ask } = watched;
  let sizeBytes = 0;
  let gathered: Uint8Array[] = [];
  let gatheredBytes = 0;
  let writing: Promise<void> = Promise.resolve();
  let syncing: Promise<void> = Promise.resolve();
  let isSyncing = false;
  let unsyncedBytes = 0;
  const sync = async () => {
    await syncing;
    isSyncing = true;
    unsyncedBytes = 0;
    // Both are awaited later, and must not count as unhandled until then.
    syncing = ask(() => file.datasync()).finally(() => (isSyncing = false));
    syncing.catch(() => {});
  };
  const flush = async () => {
    await writing;
    if (unsyncedBytes >= mostUnsyncedBytes) await syncing;
    if (unsyncedBytes >= syncEveryBytes && !isSyncing) await sync();
    unsyncedBytes += gatheredBytes;
    const taken = gathered;
    writing = ask(() => writeAll(file, taken)).then(() => {
      if (ownsChunks) for (const chunk of taken) freeChunk(chunk);
    });
    writing.catch(() => {});
    gathered = [];
    gatheredBytes = 0;
  };
  try {
    for (;;) {
      // The body may take its time.
      const next = await raceSignal(chunks.next(), signal);
      if (next.done) break;
      gathered.push(next.value);
      gatheredBytes += next.value.length;
      sizeBytes += next.value.length;
      if (gatheredBytes >= gatherBytes) await flush();
    }
    await flush();
  } finally {
    // The file is closed next, and a write under way must not meet another file's descriptor.
    await Promise.allSettled([writing, syncing]);
  }
  await writing;
  await syncing;
  return sizeBytes;
}

async function writeAll(file: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
  let rest = chunks.filter((chunk) => chunk.length > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await file.writev(rest.slice(0, 1024));
    rest = rest.flatMap((chunk) => {
      const taken = Math.min(bytesWritten, chunk.length);
      bytesWritten -= taken;
      return taken === chunk.length ? [] : [chunk.subarray(taken)];
    });
  }
}
