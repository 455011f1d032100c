import { closeSync, constants, fchownSync, openSync, writeSync } from "node:fs";
import { fail } from "@coppice/proto/kit/failure";
import type { OsUser } from "./os-user.ts";

/** Memory, never a disk; every Linux mounts it. */
const folder = "/dev/shm";
/** Linux's __O_TMPFILE, which Node does not name: a file that never has a name, so nothing can be left of it. */
const temporaryFile = 0o20000000;

/**
 * A descriptor of a file without a name that holds the secret, for one child to inherit and read as /dev/fd/N; only the
 * given user, or the agent's own, can open it there. (A pipe of Node's is a socket, which cannot be opened again.)
 * Disposing closes it here. Fails with DATA_FOLDER_UNUSABLE where there is no such memory.
 */
export function openSecretFile(secret: string, user: OsUser | undefined): Disposable & { readonly fd: number } {
  const fd = open();
  try {
    const bytes = Buffer.from(secret, "utf8");
    for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written);
    if (user && user.uid !== process.geteuid?.()) fchownSync(fd, user.uid, user.gid);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

function open(): number {
  try {
    return openSync(folder, constants.O_RDWR | constants.O_DIRECTORY | temporaryFile, 0o600);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown";
    return fail("DATA_FOLDER_UNUSABLE", `${folder} cannot hold a file without a name: ${code}`, {
      hint: `mount a tmpfs there that the agent's user may write to: secrets for programs are kept in no other place`,
      cause,
    });
  }
}
