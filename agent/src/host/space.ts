import { lstat, readdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { formatSize } from "@coppice/proto/kit/size";
import type { Sight } from "./look.ts";

/** Free bytes of a folder's file system; undefined where it cannot be seen. */
export async function freeBytesOf(folder: string): Promise<bigint | undefined> {
  try {
    const { bavail, bsize } = await statfs(folder, { bigint: true });
    return bavail * bsize;
  } catch (error) {
    // A folder that the agent may not see says nothing; the server will.
    if (error instanceof Error && "code" in error && ["EACCES", "ENOENT"].includes(String(error.code)))
      return undefined;
    throw error;
  }
}

/** One by one the way to a thread and back takes longer than the look. */
const lookedAtOnce = 64;

/** Bytes that what is in a folder takes of its file system, and that are free again without it; links are not followed. */
export async function takenBytesOf(folder: string): Promise<bigint> {
  const paths = (await readdir(folder, { recursive: true, withFileTypes: true })).map(({ parentPath, name }) =>
    join(parentPath, name),
  );
  let taken = 0n;
  while (paths.length > 0) {
    const looked = await Promise.all(paths.splice(-lookedAtOnce).map((path) => lstat(path, { bigint: true })));
    for (const { blocks } of looked) taken += blocks * 512n;
  }
  return taken;
}

/** Whether there is room. Fails with SPACE_MISSING. */
export function seeSpace(where: string, free: bigint | undefined, needed: bigint | undefined): Sight {
  if (free === undefined) return { message: `free space of ${where} cannot be seen from here` };
  if (needed === undefined) return { message: `${where} has ${formatSize(free)} free` };
  const message = `${where} has ${formatSize(free)} free, and the database had ${formatSize(needed)}`;
  if (free < needed) fail("SPACE_MISSING", message);
  return { message };
}
