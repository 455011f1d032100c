import { readFileSync } from "node:fs";

/** What a process that ended, or that is somebody else's, answers with. */
const unaskable = new Set(["ENOENT", "ESRCH", "EACCES", "EPERM"]);

/** Bytes that a process has written so far, to all its files together; undefined when it cannot be asked (any more). */
export function writtenBytes(pid: number): number | undefined {
  try {
    const written = /^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1];
    return written === undefined ? undefined : Number(written);
  } catch (error) {
    if (error instanceof Error && "code" in error && unaskable.has(String(error.code))) return undefined;
    throw error;
  }
}
