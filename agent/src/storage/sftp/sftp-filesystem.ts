import type { SftpSession } from "./sftp-session.ts";

/** The file system under a path of the server. */
export interface SftpFilesystem {
  /** Tells it from others of that server. */
  readonly id: string;
  readonly freeBytes: number;
  /** Whether it has room for another file at all; some have no count of files and say yes. */
  readonly hasFreeFiles: boolean;
  readonly isReadOnly: boolean;
}

const readOnlyFlag = 1;

/** Asks for the file system; undefined where the server cannot tell. */
export async function sftpFilesystem(
  session: SftpSession,
  path: string,
  signal: AbortSignal,
): Promise<SftpFilesystem | undefined> {
  if (!session.extensions.has("statvfs@openssh.com")) return undefined;
  const found: unknown = await session.ask<unknown>(signal, (sftp, settle) => sftp.ext_openssh_statvfs(path, settle));
  const read = (name: string): bigint => {
    const value: unknown = typeof found === "object" && found !== null ? Reflect.get(found, name) : undefined;
    // The library gives a number, or text where it is too large for one.
    return typeof value === "number" || typeof value === "bigint" || typeof value === "string" ? BigInt(value) : 0n;
  };
  return {
    id: String(read("f_sid")),
    freeBytes: Number(read("f_frsize") * read("f_bavail")),
    hasFreeFiles: read("f_files") === 0n || read("f_favail") > 0n,
    isReadOnly: (read("f_flag") & BigInt(readOnlyFlag)) !== 0n,
  };
}
