import type { Attributes, FileEntry } from "ssh2";
import { raceSignal } from "@coppice/proto/kit/race";
import type { SendRequest, SftpSession } from "./sftp-session.ts";
import { isSftpStatus } from "./sftp-status.ts";

const never = new AbortController().signal;
const openForReading = 0x01;
const openForWritingNew = 0x02 | 0x08 | 0x20;

/** Opens a file, or a folder for its fsync. A symbolic link is followed: SFTP knows no other way. */
export function openToRead(session: SftpSession, path: string, signal: AbortSignal): Promise<Buffer> {
  return openHandle(session, signal, (sftp, settle) => sftp.open(path, openForReading, settle));
}

/** Makes a file, 0600, that must not be there yet. */
export function openNew(session: SftpSession, path: string, signal: AbortSignal): Promise<Buffer> {
  return openHandle(session, signal, (sftp, settle) => sftp.open(path, openForWritingNew, { mode: 0o600 }, settle));
}

/** Opens a folder for `readEntries`. */
export function openFolder(session: SftpSession, path: string, signal: AbortSignal): Promise<Buffer> {
  return openHandle(session, signal, (sftp, settle) => sftp.opendir(path, settle));
}

/** A handle that comes after its caller was aborted is closed. */
async function openHandle(session: SftpSession, signal: AbortSignal, send: SendRequest<Buffer>): Promise<Buffer> {
  signal.throwIfAborted();
  const opening = session.ask(never, send);
  try {
    return await raceSignal(opening, signal);
  } catch (error) {
    opening.then(
      (handle) => letGo(session, handle),
      () => {},
    );
    throw error;
  }
}

/** Closes a handle that was written to. */
export function closeHandle(session: SftpSession, handle: Buffer, signal: AbortSignal): Promise<void> {
  return session.ask<void>(signal, (sftp, settle) => sftp.close(handle, (error) => settle(error, undefined)));
}

/** Closes a handle that was only read; when that fails, its connection is gone and the handle with it. */
export function letGo(session: SftpSession, handle: Buffer): void {
  closeHandle(session, handle, never).catch(() => {});
}

/** Reads up to `length` bytes into a buffer of its own; an empty one at the end of the file. */
export function readAt(
  session: SftpSession,
  handle: Buffer,
  { offset, length }: { offset: number; length: number },
  signal: AbortSignal,
): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length);
  return session.ask<Buffer>(signal, (sftp, settle) =>
    sftp.read(handle, buffer, 0, length, offset, (error, bytesRead) => settle(error, buffer.subarray(0, bytesRead))),
  );
}

/** Writes all of the bytes at an offset. */
export function writeAt(
  session: SftpSession,
  handle: Buffer,
  bytes: Buffer,
  offset: number,
  signal: AbortSignal,
): Promise<void> {
  return session.ask<void>(signal, (sftp, settle) =>
    sftp.write(handle, bytes, 0, bytes.length, offset, (error) => settle(error, undefined)),
  );
}

/** fsync of an open file or folder. */
export function syncHandle(session: SftpSession, handle: Buffer, signal: AbortSignal): Promise<void> {
  return session.ask<void>(
    signal,
    (sftp, settle) => sftp.ext_openssh_fsync(handle, (error) => settle(error, undefined)),
    { isSync: true },
  );
}

/** Size of an open file. */
export function statHandle(session: SftpSession, handle: Buffer, signal: AbortSignal): Promise<Attributes> {
  return session.ask<Attributes>(signal, (sftp, settle) => sftp.fstat(handle, settle));
}

/** What is at a path, a symbolic link itself; undefined for nothing. */
export async function lookAt(session: SftpSession, path: string, signal: AbortSignal): Promise<Attributes | undefined> {
  try {
    return await session.ask<Attributes>(signal, (sftp, settle) => sftp.lstat(path, settle));
  } catch (error) {
    if (isSftpStatus(error, "noSuchFile")) return undefined;
    throw error;
  }
}

/** What is at the end of a path, links followed. */
export function followPath(session: SftpSession, path: string, signal: AbortSignal): Promise<Attributes> {
  return session.ask<Attributes>(signal, (sftp, settle) => sftp.stat(path, settle));
}

/** The path without symbolic links. */
export function realPath(session: SftpSession, path: string, signal: AbortSignal): Promise<string> {
  return session.ask<string>(signal, (sftp, settle) => sftp.realpath(path, settle));
}

/** The next names in an open folder, `.` and `..` left out; undefined when there are no more. */
export async function readEntries(
  session: SftpSession,
  handle: Buffer,
  signal: AbortSignal,
): Promise<FileEntry[] | undefined> {
  try {
    return await session.ask<FileEntry[]>(signal, (sftp, settle) => sftp.readdir(handle, settle));
  } catch (error) {
    if (isSftpStatus(error, "endOfFile")) return undefined;
    throw error;
  }
}

/** Makes a folder, 0700. */
export function makeFolderAt(session: SftpSession, path: string, signal: AbortSignal): Promise<void> {
  return session.ask<void>(signal, (sftp, settle) =>
    sftp.mkdir(path, { mode: 0o700 }, (error) => settle(error, undefined)),
  );
}

/** Removes a folder that is empty. */
export function removeFolderAt(session: SftpSession, path: string, signal: AbortSignal): Promise<void> {
  return session.ask<void>(signal, (sftp, settle) => sftp.rmdir(path, (error) => settle(error, undefined)));
}

/** Removes a file; false when there was none. */
export async function removeFileAt(session: SftpSession, path: string, signal: AbortSignal): Promise<boolean> {
  try {
    await session.ask<void>(signal, (sftp, settle) => sftp.unlink(path, (error) => settle(error, undefined)));
    return true;
  } catch (error) {
    if (isSftpStatus(error, "noSuchFile")) return false;
    throw error;
  }
}

/** Gives a file a second name, which must not be taken. */
export function linkFile(session: SftpSession, from: string, to: string, signal: AbortSignal): Promise<void> {
  return session.ask<void>(signal, (sftp, settle) =>
    sftp.ext_openssh_hardlink(from, to, (error) => settle(error, undefined)),
  );
}

/** Renames, replacing what is there at once. */
export function replaceFile(session: SftpSession, from: string, to: string, signal: AbortSignal): Promise<void> {
  return session.ask<void>(signal, (sftp, settle) =>
    sftp.ext_openssh_rename(from, to, (error) => settle(error, undefined)),
  );
}

/** Renames as SFTP itself knows it: to a name that must not be taken. */
export function renameFile(session: SftpSession, from: string, to: string, signal: AbortSignal): Promise<void> {
  return session.ask<void>(signal, (sftp, settle) => sftp.rename(from, to, (error) => settle(error, undefined)));
}
