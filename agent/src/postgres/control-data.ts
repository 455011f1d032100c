import { open, readFile } from "node:fs/promises";
import { join } from "node:path";

function isUnreadable(error: unknown): boolean {
  return (
    error instanceof Error && "code" in error && ["EACCES", "ENOENT", "ENOTDIR", "EPERM"].includes(String(error.code))
  );
}

/**
 * The system identifier in a data directory's pg_control, whose first 8 bytes it is in the machine's own order;
 * undefined where the file cannot be read.
 */
export async function readSystemIdentifier(dataDirectory: string): Promise<string | undefined> {
  try {
    await using file = await open(join(dataDirectory, "global", "pg_control"));
    const head = new BigUint64Array(1);
    const { bytesRead } = await file.read(new Uint8Array(head.buffer), 0, 8, 0);
    return bytesRead === 8 && head[0] ? head[0].toString() : undefined;
  } catch (error) {
    if (isUnreadable(error)) return undefined;
    throw error;
  }
}

/** The major version of a data directory, or undefined where it cannot be read. */
export async function readMajor(dataDirectory: string): Promise<number | undefined> {
  try {
    const major = Number.parseInt(await readFile(join(dataDirectory, "PG_VERSION"), "utf8"), 10);
    return Number.isNaN(major) ? undefined : major;
  } catch (error) {
    if (isUnreadable(error)) return undefined;
    throw error;
  }
}

/** What a running postmaster writes of itself. */
export interface PostmasterFile {
  readonly pid: number;
  readonly dataDirectory: string;
  readonly port: number;
  /** Empty when it listens on none. */
  readonly socketDirectory: string;
}

/** The postmaster.pid of a data directory, undefined where there is none, or the word when our user may not look. */
export async function readPostmasterFile(dataDirectory: string): Promise<PostmasterFile | "closed" | undefined> {
  try {
    const lines = (await readFile(join(dataDirectory, "postmaster.pid"), "utf8")).split("\n");
    const [pid, port] = [Number(lines[0]), Number(lines[3])];
    if (!Number.isInteger(pid) || !Number.isInteger(port) || port === 0) return undefined;
    return { pid, dataDirectory: lines[1] ?? dataDirectory, port, socketDirectory: lines[4] ?? "" };
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "EACCES" || error.code === "EPERM"))
      return "closed";
    if (isUnreadable(error)) return undefined;
    throw error;
  }
}
