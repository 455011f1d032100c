import { Failure, type FailureOptions } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import { sftpFilesystem } from "./sftp-filesystem.ts";
import type { SftpSession } from "./sftp-session.ts";
import { SftpStatus, sftpStatus } from "./sftp-status.ts";

/** What was being done when the server refused. */
export interface SftpAttempt {
  readonly doing: "write" | "read" | "list" | "delete";
  /** Name of the storage. */
  readonly name: string;
  /** Path of the repository on the server. */
  readonly path: string;
  readonly key: string;
}

/** Less than a request writes at once. */
const roomForNothing = 256 * 1024;

/**
 * The failure that a refusal stands for; any other error is given back as it is. SFTP says no more than "failure" for a
 * full disk, a read-only one and a broken one: the file system is asked which, so call it before clearing away.
 */
export async function sftpFailure(
  error: unknown,
  session: SftpSession,
  attempt: SftpAttempt,
  signal: AbortSignal,
): Promise<unknown> {
  if (!(error instanceof SftpStatus)) return error;
  const { doing, name, key } = attempt;
  const [reason, why] = await explain(error, session, attempt, signal);
  const options: FailureOptions = { metadata: { sftp_status: String(error.status), key }, cause: error };
  return new Failure(reason, `repository ${name}: cannot ${doing} ${key === "" ? "it" : key}: ${why}`, options);
}

async function explain(
  { status, message }: SftpStatus,
  session: SftpSession,
  { doing, path }: SftpAttempt,
  signal: AbortSignal,
): Promise<[Reason, string]> {
  const isChange = doing === "write" || doing === "delete";
  const denied = isChange ? "REPOSITORY_NOT_WRITABLE" : "REPOSITORY_NOT_READABLE";
  // What was there a moment ago: the root, or a temporary file.
  if (status === sftpStatus.noSuchFile) return ["REPOSITORY_UNREACHABLE", message];
  if (status === sftpStatus.badMessage) return ["OBJECT_KEY_REFUSED", message];
  if (status !== sftpStatus.permissionDenied && status !== sftpStatus.failure) return [denied, message];
  const disk = isChange ? await diskOf(session, path, signal) : undefined;
  if (disk?.isReadOnly) return ["REPOSITORY_NOT_WRITABLE", "its file system is read-only"];
  if (status === sftpStatus.permissionDenied) return [denied, message];
  if (disk && (disk.freeBytes < roomForNothing || !disk.hasFreeFiles)) {
    return ["REPOSITORY_FULL", `no space is left (${disk.freeBytes} bytes)`];
  }
  return ["REPOSITORY_IO_ERROR", `${message}: the server does not say why (a quota, the disk)`];
}

/** Without an answer the refusal is all that is known. */
async function diskOf(session: SftpSession, path: string, signal: AbortSignal) {
  try {
    return await sftpFilesystem(session, path, signal);
  } catch (error) {
    if (error instanceof SftpStatus) return undefined;
    throw error;
  }
}
