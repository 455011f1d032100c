import { statfsSync } from "node:fs";
import { Failure, type FailureOptions } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import { formatSize } from "@coppice/proto/kit/size";

/** What was being done when the file system refused. */
export interface Attempted {
  readonly doing: "write" | "read" | "list" | "delete";
  /** Path of the repository. */
  readonly root: string;
  readonly key: string;
}

const reasonByCode: Readonly<Record<string, Reason>> = {
  EDQUOT: "REPOSITORY_FULL",
  EFBIG: "REPOSITORY_FULL",
  EHOSTDOWN: "REPOSITORY_UNREACHABLE",
  EHOSTUNREACH: "REPOSITORY_UNREACHABLE",
  EIO: "REPOSITORY_IO_ERROR",
  EISDIR: "OBJECT_KEY_REFUSED",
  ELOOP: "OBJECT_KEY_REFUSED",
  ENAMETOOLONG: "OBJECT_KEY_REFUSED",
  ENODEV: "REPOSITORY_UNREACHABLE",
  // What was there a moment ago: the root, or a temporary file.
  ENOENT: "REPOSITORY_UNREACHABLE",
  ENOSPC: "REPOSITORY_FULL",
  ENOSYS: "REPOSITORY_NOT_WRITABLE",
  ENOTDIR: "OBJECT_KEY_REFUSED",
  ENOTCONN: "REPOSITORY_UNREACHABLE",
  ENOTSUP: "REPOSITORY_NOT_WRITABLE",
  EOPNOTSUPP: "REPOSITORY_NOT_WRITABLE",
  EROFS: "REPOSITORY_NOT_WRITABLE",
  ESTALE: "REPOSITORY_UNREACHABLE",
  ETIMEDOUT: "REPOSITORY_UNREACHABLE",
  EUCLEAN: "REPOSITORY_IO_ERROR",
};

const fullByCode: Readonly<Record<string, string>> = {
  EDQUOT: "the disk quota of the agent's user is used up",
  EFBIG: "the file is larger than the file system or a limit lets it be",
  ENOSPC: "no space left on its device",
};

/** What is free now, when what could not be written whole has been removed. */
function describeRoom(root: string): string {
  try {
    const { bavail, bsize, files, ffree } = statfsSync(root);
    const inodes = files > 0 && ffree === 0 ? ", but no inode" : "";
    return `${formatSize(bavail * bsize)} free now${inodes}`;
  } catch (error) {
    return `its free space cannot be read: ${errorCode(error) ?? "it is not there"}`;
  }
}

/** The failure that an error of the file system stands for; any other error is given back as it is. */
export function filesystemFailure(error: unknown, { doing, root, key }: Attempted): unknown {
  const code = errorCode(error);
  if (error instanceof Failure || code === undefined) return error;
  const isDenied = code === "EACCES" || code === "EPERM";
  const denied = doing === "write" || doing === "delete" ? "REPOSITORY_NOT_WRITABLE" : "REPOSITORY_NOT_READABLE";
  const reason = isDenied ? denied : reasonByCode[code];
  if (!reason) return error;
  const options: FailureOptions = { metadata: { errno: code, key }, cause: error };
  if (reason === "REPOSITORY_FULL") {
    const message = `repository ${root}: cannot ${doing} ${key}: ${fullByCode[code]}; ${describeRoom(root)}`;
    return new Failure(reason, message, options);
  }
  return new Failure(reason, `repository ${root}: cannot ${doing} ${key === "" ? "it" : key}: ${code}`, options);
}

/** Code of an error of the operating system: ENOENT, EACCES. */
export function errorCode(error: unknown): string | undefined {
  const code = error instanceof Error && "syscall" in error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : undefined;
}
