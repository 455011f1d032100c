import { readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";

/** The pid of a live postmaster of the data directory; a stale postmaster.pid, whose process is another one, is none. */
export async function findPostmaster(directory: string): Promise<number | undefined> {
  const [first] = await readPidFile(directory);
  const pid = Number(first);
  if (!Number.isInteger(pid) || pid <= 1) return undefined;
  try {
    return (await readlink(`/proc/${pid}/cwd`)) === directory ? pid : undefined;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** The socket folder of a postmaster that accepts connections; undefined when there is none. */
export async function findSocketFolder(directory: string): Promise<string | undefined> {
  const pid = await findPostmaster(directory);
  if (pid === undefined || !(await isReady(directory, pid))) return undefined;
  return (await readPidFile(directory))[4];
}

/** Whether the server says that it accepts connections. */
export async function isReady(directory: string, pid: number): Promise<boolean> {
  const lines = await readPidFile(directory);
  return Number(lines[0]) === pid && lines[7]?.trim() === "ready";
}

/** Ends a postmaster, at first asking for a fast shutdown, after `patienceMs` at once; returns when it is gone. */
export async function stopPostmaster(pid: number, patienceMs: number): Promise<void> {
  for (const signal of ["SIGINT", "SIGQUIT"] as const) {
    if (!kill(pid, signal)) return;
    const deadline = Date.now() + patienceMs;
    while (Date.now() < deadline) {
      if (!(await isAlive(pid))) return;
      await sleep(20, AbortSignal.timeout(patienceMs + 1000));
    }
  }
  fail("CONFIGURATION_INVALID", `the embedded PostgreSQL with process id ${pid} does not end`, {
    hint: `look at that process, end it, and start again`,
  });
}

async function isAlive(pid: number): Promise<boolean> {
  try {
    // A zombie that nobody has waited for holds nothing any more.
    return !/^\d+ \(.*\) Z/.test(await readFile(`/proc/${pid}/stat`, "latin1"));
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

function kill(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

async function readPidFile(directory: string): Promise<string[]> {
  try {
    return (await readFile(join(directory, "postmaster.pid"), "utf8")).split("\n");
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH");
}
