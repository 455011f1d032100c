import { constants } from "node:fs";
import { copyFile, link, open, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** The first major version whose pg_combinebackup can make hard links of what does not change. */
const linksSince = 18;

/** Whether a copy of a file in this folder can share its blocks, as on XFS, btrfs and newer ZFS. */
async function canClone(folder: string): Promise<boolean> {
  const [probe, copy] = [join(folder, "clone-probe"), join(folder, "clone-probe-copy")];
  try {
    await writeFile(probe, Buffer.alloc(8192, 1), { mode: 0o600 });
    await copyFile(probe, copy, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && isMissing(error.code)) return false;
    throw error;
  } finally {
    await Promise.all([probe, copy].map((path) => rm(path, { force: true })));
  }
}

function isMissing(code: unknown): boolean {
  return ["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EXDEV", "ENOTTY"].includes(String(code));
}

/** Whether a file in this folder can have two names, as on every local file system, but not on each that is mounted from elsewhere. */
async function canLink(folder: string): Promise<boolean> {
  const [probe, second] = [join(folder, "link-probe"), join(folder, "link-probe-second")];
  try {
    await (await open(probe, "wx", 0o600)).close();
    await link(probe, second);
    return true;
  } catch (error) {
    if (error instanceof Error && "syscall" in error && error.syscall === "link" && "code" in error) {
      if (error.code === "EPERM" || isMissing(error.code)) return false;
    }
    throw error;
  } finally {
    await Promise.all([probe, second].map((path) => rm(path, { force: true })));
  }
}

/**
 * How pg_combinebackup is to bring over what has not changed, as its option: by hard links from 18 on where each of the
 * folders has them, which is safe as what it reads is thrown away afterwards; before by clones likewise; else as a copy. The folders
 * are those that it writes to: what it reads lies on the same file system as each. Fails with the file system's own error
 * when nothing can be written there.
 */
export async function copyMethod(major: number, folders: readonly string[]): Promise<"--link" | "--clone" | "--copy"> {
  const [method, isThere] = major >= linksSince ? (["--link", canLink] as const) : (["--clone", canClone] as const);
  for (const folder of folders) if (!(await isThere(folder))) return "--copy";
  return method;
}
