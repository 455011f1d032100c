import { constants } from "node:fs";
import { copyFile, rm, writeFile } from "node:fs/promises";
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
    if (error instanceof Error && "code" in error && isNoClone(error.code)) return false;
    throw error;
  } finally {
    await Promise.all([probe, copy].map((path) => rm(path, { force: true })));
  }
}

function isNoClone(code: unknown): boolean {
  return ["ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EXDEV", "ENOTTY"].includes(String(code));
}

/**
 * How pg_combinebackup is to bring over what has not changed, as its option: by hard links from 18 on, which is safe as
 * what it reads is thrown away afterwards; else by clones where each of the folders has them; else as a copy. The folders
 * are those that it writes to: what it reads lies on the same file system as each. Fails with the file system's own error
 * when nothing can be written there.
 */
export async function copyMethod(major: number, folders: readonly string[]): Promise<"--link" | "--clone" | "--copy"> {
  if (major >= linksSince) return "--link";
  for (const folder of folders) if (!(await canClone(folder))) return "--copy";
  return "--clone";
}
