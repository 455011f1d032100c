import { randomBytes } from "node:crypto";
import { posix } from "node:path";
import { Readable } from "node:stream";
import { fail, Failure } from "@coppice/proto/kit/failure";
import { parseFileKey } from "../file-key.ts";
import type { Body, PutOptions } from "../storage.ts";
import { formatTemporaryName } from "../temporary-name.ts";
import { delaySignal } from "./delay-signal.ts";
import { sftpFailure } from "./sftp-failure.ts";
import { makeSftpFolder, pruneSftpFolders, type SftpPlace, syncNearestSftpFolder } from "./sftp-folder.ts";
import { isDirectory } from "./sftp-mode.ts";
import { closeHandle, letGo, linkFile, lookAt, openNew, removeFileAt, renameFile } from "./sftp-requests.ts";
import { replaceFile, syncHandle } from "./sftp-requests.ts";
import { checkSftpRoot } from "./sftp-root.ts";
import { isSftpStatus, SftpStatus } from "./sftp-status.ts";
import { writeChunks } from "./sftp-write.ts";

/** How long an aborted put may still take to end what must not be left half done, and any to clear away; ms. */
const abortedGraceMs = 1000;
const clearingMs = 5000;

/** What a put needs. */
export interface SftpPut {
  readonly operationId: string;
  readonly key: string;
  readonly body: Body;
  readonly options: PutOptions;
  /** Gives the place to write to, connecting where it is needed. */
  readonly reach: (signal: AbortSignal) => Promise<SftpPlace>;
}

/** Stores one object; see Storage.put. */
export async function putBySftp(put: SftpPut): Promise<{ sizeBytes: number }> {
  const chunks: AsyncIterator<Uint8Array> = put.body[Symbol.asyncIterator]();
  try {
    return await writeAndPublish(put, parseFileKey(put.key), chunks);
  } finally {
    release(put.body, chunks);
  }
}

async function writeAndPublish(
  { operationId, key, options: { signal, ifAbsent }, reach }: SftpPut,
  names: readonly string[],
  chunks: AsyncIterator<Uint8Array>,
): Promise<{ sizeBytes: number }> {
  const place = await reach(signal);
  const { session, root } = place;
  const folders = names.slice(0, -1);
  // What of ours has to go if it fails; never what has its name, which others may rely on from then on.
  const made = new Set<string>();
  using late = delaySignal(signal, abortedGraceMs);
  try {
    checkDurable(place);
    await checkSftpRoot(session, root, signal);
    const { temporary, handle } = await openTemporary(place, operationId, folders, made, signal);
    let sizeBytes: number;
    try {
      sizeBytes = await writeChunks(session, handle, chunks, signal);
      await syncHandle(session, handle, signal);
    } catch (error) {
      letGo(session, handle);
      throw error;
    }
    await closeHandle(session, handle, signal);
    signal.throwIfAborted();
    const target = posix.join(posix.dirname(temporary), names.at(-1) ?? "");
    await publish(place, { temporary, target, key, folders, ifAbsent, made }, late.signal);
    await syncNearestSftpFolder(place, folders, late.signal);
    return { sizeBytes };
  } catch (error) {
    const clearing = AbortSignal.timeout(signal.aborted ? abortedGraceMs : clearingMs);
    const attempt = { doing: "write", name: root.name, path: root.realPath, key } as const;
    const failure = await quietly(() => sftpFailure(error, session, attempt, clearing), error);
    if (made.size > 0) await quietly(() => clearAway(reach, made, folders, clearing), undefined);
    throw failure;
  }
}

/** Also by another connection, when the first was lost. */
async function clearAway(
  reach: SftpPut["reach"],
  made: ReadonlySet<string>,
  folders: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const place = await reach(signal);
  for (const path of made) await removeFileAt(place.session, path, signal);
  // Folders that were made for it alone; who makes a file in one of them meanwhile makes the folder once more.
  await pruneSftpFolders(place, folders, signal);
}

function checkDurable({ session, root }: SftpPlace): void {
  if (session.extensions.has("fsync@openssh.com")) return;
  fail("REPOSITORY_NOT_WRITABLE", `repository ${root.name}: the server cannot make a file durable`, {
    hint: "use an SFTP server that knows fsync@openssh.com, such as OpenSSH's own",
  });
}

/** A folder may be pruned between being made and being used, by whoever deletes the last object in it. */
async function openTemporary(
  place: SftpPlace,
  operationId: string,
  folders: readonly string[],
  made: Set<string>,
  signal: AbortSignal,
) {
  for (let attempt = 1; ; attempt++) {
    const name = formatTemporaryName({ operationId, unique: randomBytes(8).toString("hex") });
    try {
      const temporary = posix.join(await makeSftpFolder(place, folders, signal), name);
      made.add(temporary);
      return { temporary, handle: await openNew(place.session, temporary, signal) };
    } catch (error) {
      if (!isSftpStatus(error, "noSuchFile") || attempt === 10) throw error;
      made.clear();
      await checkSftpRoot(place.session, place.root, signal);
    }
  }
}

interface Publication {
  readonly temporary: string;
  readonly target: string;
  readonly key: string;
  readonly folders: readonly string[];
  readonly ifAbsent: boolean;
  /** Kept up to date with what there is of ours that has no name of its own yet. */
  readonly made: Set<string>;
}

/** Gives the whole file its name. */
async function publish(place: SftpPlace, publication: Publication, signal: AbortSignal): Promise<void> {
  const { session } = place;
  const { temporary, target, ifAbsent, made } = publication;
  const take = async (give: () => Promise<void>) => {
    try {
      await give();
    } catch (error) {
      throw await explainTaken(place, publication, error, signal);
    }
  };
  if (ifAbsent && session.extensions.has("hardlink@openssh.com")) {
    // Unlike a rename it never replaces what is there.
    await take(() => linkFile(session, temporary, target, signal));
    await removeFileAt(session, temporary, signal);
    made.delete(temporary);
  } else if (!ifAbsent && session.extensions.has("posix-rename@openssh.com")) {
    await take(() => replaceFile(session, temporary, target, signal));
    made.clear();
  } else {
    // SFTP's own rename must not replace anything, but servers differ in how sure that is: hence the look before, and
    // no claim of putIfAbsent.
    const there = await lookAt(session, target, signal);
    if (there) throw await taken(place, publication, { cause: undefined, signal });
    await take(() => renameFile(session, temporary, target, signal));
    made.clear();
  }
}

/** A server has no status of its own for a name that is taken. */
async function explainTaken(
  place: SftpPlace,
  publication: Publication,
  error: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  if (!(error instanceof SftpStatus)) return error;
  const there = await lookAt(place.session, publication.target, signal);
  if (!there) return error;
  if (publication.ifAbsent) return await taken(place, publication, { cause: error, signal });
  if (!isDirectory(there)) return error;
  const text = `repository ${place.root.name}: ${publication.key} is a folder`;
  return new Failure("OBJECT_KEY_REFUSED", text, { cause: error });
}

/** Who is told that it is there may rely on it, and who has put it there may not have come to the fsync. */
async function taken(
  place: SftpPlace,
  { key, ifAbsent, folders }: Publication,
  { cause, signal }: { readonly cause: unknown; readonly signal: AbortSignal },
): Promise<Failure> {
  const { root } = place;
  if (ifAbsent) {
    await syncNearestSftpFolder(place, folders, signal);
    return new Failure("OBJECT_EXISTS", `repository ${root.name}: ${key} exists already`, { cause });
  }
  return new Failure("REPOSITORY_NOT_WRITABLE", `repository ${root.name}: the server cannot replace ${key} at once`, {
    cause,
    hint: "use an SFTP server that knows posix-rename@openssh.com, such as OpenSSH's own",
  });
}

/** The first error says more; a file that stays is found again by its name. */
async function quietly<T>(clearAway: () => Promise<T>, otherwise: T): Promise<T> {
  try {
    return await clearAway();
  } catch (error) {
    if (error instanceof SftpStatus || error instanceof Failure || error instanceof DOMException) return otherwise;
    throw error;
  }
}

/** Lets go of a body however the put ended; one that is stuck is not waited for. */
function release(body: Body, chunks: AsyncIterator<Uint8Array>): void {
  if (body instanceof Readable) {
    // Its error, if it has one, is the put's.
    body.on("error", () => {});
    body.destroy();
  } else {
    chunks.return?.().catch(() => {});
  }
}
