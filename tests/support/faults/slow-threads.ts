import { spawnSync } from "node:child_process";
import { closeSync, constants, open, openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** File systems as slow as a distant server's, for this process: its calls to them wait for a thread. */
export interface SlowThreads extends AsyncDisposable {
  /** Lets no call through any more, as a file system that hangs, until `goOn`. */
  stop(): void;
  goOn(): void;
}

const openFile = promisify(open);

/** Has each call wait for about so long, by files in all the threads that nobody writes to for as long. */
export async function slowThreads(everyMs: number): Promise<SlowThreads> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-slow-"));
  const path = join(folder, "fifo");
  spawnSync("mkfifo", [path]);
  const now = { isOver: false, isStopped: false };
  const hold = async () => {
    while (!now.isOver) closeSync(await openFile(path, "r"));
  };
  const holding = Array.from({ length: Number(process.env["UV_THREADPOOL_SIZE"] ?? 4) }, hold);
  const letThrough = () => {
    if (now.isStopped) return;
    try {
      closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
    } catch {
      // No thread waits yet.
    }
  };
  const timer = setInterval(letThrough, everyMs);
  return {
    stop: () => void (now.isStopped = true),
    goOn: () => void (now.isStopped = false),
    async [Symbol.asyncDispose]() {
      now.isOver = true;
      now.isStopped = false;
      await Promise.all(holding);
      clearInterval(timer);
      await rm(folder, { recursive: true });
    },
  };
}
