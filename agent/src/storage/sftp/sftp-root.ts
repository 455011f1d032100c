import { fail, Failure } from "@coppice/proto/kit/failure";
import { sftpFilesystem } from "./sftp-filesystem.ts";
import { isDirectory } from "./sftp-mode.ts";
import { followPath, realPath } from "./sftp-requests.ts";
import type { SftpSession } from "./sftp-session.ts";
import { isSftpStatus } from "./sftp-status.ts";

/** The folder of a repository on a server, as it was when it was opened. */
export interface SftpRoot {
  /** Name of the storage, for messages. */
  readonly name: string;
  readonly path: string;
  /** Without symbolic links. */
  readonly realPath: string;
  /**
   * The file system it is on, where the server tells: another one there is an unmounted disk's mount point. SFTP has no
   * inodes, so another folder of the same file system in its place is not noticed.
   */
  readonly filesystemId: string | undefined;
}

/** Looks at the folder of a repository. Fails with REPOSITORY_UNREACHABLE, or SftpStatus. */
export async function openSftpRoot(
  session: SftpSession,
  { name, path }: { name: string; path: string },
  signal: AbortSignal,
): Promise<SftpRoot> {
  try {
    // All at once: one round trip.
    const [real, found, disk] = await Promise.all([
      realPath(session, path, signal),
      followPath(session, path, signal),
      sftpFilesystem(session, path, signal),
    ]);
    if (!isDirectory(found)) fail("REPOSITORY_UNREACHABLE", `repository ${name} is not a folder`);
    return { name, path, realPath: real, filesystemId: disk?.id };
  } catch (error) {
    // Version 3 has no status of its own for a path through a file.
    if (!isSftpStatus(error, "noSuchFile") && !isSftpStatus(error, "failure")) throw error;
    throw new Failure("REPOSITORY_UNREACHABLE", `repository ${name} does not exist on that server`, {
      cause: error,
      hint: "make the folder on the server for that user, or mount what it is on, then `coppice repository check`",
    });
  }
}

/** Fails with REPOSITORY_UNREACHABLE when the folder has vanished or is on another file system now. */
export async function checkSftpRoot(session: SftpSession, root: SftpRoot, signal: AbortSignal): Promise<void> {
  const now = await openSftpRoot(session, root, signal);
  if (now.realPath !== root.realPath || now.filesystemId !== root.filesystemId) {
    fail("REPOSITORY_UNREACHABLE", `repository ${root.name} is not the folder any more that it was a moment ago`);
  }
}
