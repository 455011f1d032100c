import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A running process, told apart from a later one with the same number; undefined when there is none. */
export async function processMark(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold spaces; the start time is the 20th field after it.
    const startedAt = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return `${pid}-${startedAt}`;
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH")) {
      return undefined;
    }
    throw error;
  }
}

async function killServer(dataDir: string): Promise<void> {
  const lock = await readFile(join(dataDir, "postmaster.pid"), "utf8").catch(() => "");
  const pid = Number(lock.split("\n")[0]);
  if (!(pid > 1)) return;
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  if (command.includes(dataDir)) process.kill(pid, "SIGQUIT");
}

async function removeOrphans(root: string): Promise<void> {
  for (const name of await readdir(root)) {
    const [pid, startedAt] = name.split("-");
    if ((await processMark(Number(pid))) === `${pid}-${startedAt}`) continue;
    await killServer(join(root, name, "data"));
    await rm(join(root, name), { recursive: true, force: true, maxRetries: 5 });
  }
}

let orphansRemoved: Promise<void> | undefined;

/**
 * Makes a folder for one throwaway server, named for this process, under the system's temporary folder. The first
 * call of a process also stops the servers and removes the folders of test processes that are gone.
 */
export async function makeServerFolder(): Promise<string> {
  const root = join(tmpdir(), `coppice-test-servers-${process.getuid?.()}`);
  await mkdir(root, { recursive: true, mode: 0o755 });
  orphansRemoved ??= removeOrphans(root);
  await orphansRemoved;
  return mkdtemp(join(root, `${await processMark(process.pid)}-`));
}
