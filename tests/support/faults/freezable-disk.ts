import { spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { waitFor } from "../installation.ts";
import { openLoopDisk, runSystem } from "./loop-disk.ts";

/** A file system of its own that can be made to hang: whoever would change something in it waits and cannot be ended. */
export interface FreezableDisk extends AsyncDisposable {
  readonly path: string;
  freeze(): Promise<void>;
  /** Resolves when a thread of this process hangs in it. */
  isMissed(): Promise<void>;
  thaw(): Promise<void>;
}

const looks = 5;
/** Should the test be killed, nothing hangs for longer. */
const longestFreezeSeconds = 60;

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
  const disk = await openLoopDisk("ext4", "64M");
  const { path } = disk;
  let watchdog: ReturnType<typeof spawn> | undefined;
  const thaw = async () => {
    if (watchdog === undefined) return;
    watchdog.kill();
    watchdog = undefined;
    await runSystem("fsfreeze", "--unfreeze", path);
  };
  return {
    path,
    async freeze() {
      const script = `sleep ${longestFreezeSeconds}; exec fsfreeze --unfreeze "$0"`;
      watchdog = spawn("sh", ["-c", script, path], { detached: true, stdio: "ignore" });
      await runSystem("fsfreeze", "--freeze", path);
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
      await disk[Symbol.asyncDispose]();
    },
  };
}
