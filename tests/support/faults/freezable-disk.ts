import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { waitFor } from "../installation.ts";
import { runProgram } from "../run-program.ts";

/** A file system of its own that can be made to hang: whoever would change something in it waits and cannot be ended. */
export interface FreezableDisk extends AsyncDisposable {
  readonly path: string;
  freeze(): Promise<void>;
  /** Resolves when a thread of this process hangs in it. */
  isMissed(): Promise<void>;
  thaw(): Promise<void>;
}

/** Why this machine cannot have one; undefined where it can. */
export function whyNoFreezableDisk(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can mount a disk";
  return existsSync("/dev/loop-control") ? undefined : "there are no loop devices";
}

const looks = 5;
/** Should the test be killed, nothing hangs for longer. */
const longestFreezeSeconds = 60;

async function run(program: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runProgram(program, args, { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });
  if (code !== 0) throw new Error(`${program}: ${stderr}`);
}

/** The threads of this process that wait for a device. */
async function waitingThreads(): Promise<Set<string>> {
  const threads = await readdir("/proc/self/task");
  const states = await Promise.all(
    threads.map(async (id) => {
      const stat = await readFile(`/proc/self/task/${id}/stat`, "utf8").catch(() => "");
      return stat.slice(stat.lastIndexOf(")")).startsWith(") D ") ? [id] : [];
    }),
  );
  return new Set(states.flat());
}

/** Makes one of 64 MB. */
export async function openFreezableDisk(): Promise<FreezableDisk> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-disk-"));
  const [image, path] = [join(folder, "image"), join(folder, "disk")];
  await mkdir(path);
  await run("truncate", "--size=64M", image);
  await run("mkfs.ext4", "-q", "-F", image);
  await run("mount", "-o", "loop", image, path);
  let watchdog: ReturnType<typeof spawn> | undefined;
  const thaw = async () => {
    if (watchdog === undefined) return;
    watchdog.kill();
    watchdog = undefined;
    await run("fsfreeze", "--unfreeze", path);
  };
  return {
    path,
    async freeze() {
      const script = `sleep ${longestFreezeSeconds}; exec fsfreeze --unfreeze "$0"`;
      watchdog = spawn("sh", ["-c", script, path], { detached: true, stdio: "ignore" });
      await run("fsfreeze", "--freeze", path);
    },
    async isMissed() {
      let seen = 0;
      let still = new Set<string>();
      await waitFor("a thread hangs", async () => {
        const now = await waitingThreads();
        still = seen === 0 ? now : new Set([...still].filter((id) => now.has(id)));
        seen = still.size === 0 ? 0 : seen + 1;
        return seen >= looks;
      });
    },
    thaw,
    async [Symbol.asyncDispose]() {
      await thaw();
      await run("umount", path);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
