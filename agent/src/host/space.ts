import { statfs } from "node:fs/promises";
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

/** Whether there is room. Fails with SPACE_MISSING. */
export function seeSpace(where: string, free: bigint | undefined, needed: bigint | undefined): Sight {
  if (free === undefined) return { message: `free space of ${where} cannot be seen from here` };
  if (needed === undefined) return { message: `${where} has ${formatSize(free)} free` };
  const message = `${where} has ${formatSize(free)} free, and the database had ${formatSize(needed)}`;
  if (free < needed) fail("SPACE_MISSING", message);
  return { message };
}
