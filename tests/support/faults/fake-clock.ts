import { globSync } from "node:fs";
import { chmod, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A clock of programs that can be set while they run; their monotonic clock and the machine's stay as they are. */
export interface FakeClock extends AsyncDisposable {
  /** Environment of the programs that go by it. Give it to them when they run as their own user already. */
  readonly env: Readonly<Record<string, string>>;
  /** Sets it so many seconds ahead of the machine's, or behind it: from the next look at it on. */
  set(seconds: number): Promise<void>;
}

const [library] = globSync("/usr/lib/*/faketime/libfaketime.so.1");
const memory = "/dev/shm";

/** Why there can be none on this machine; undefined when there can. */
export function whyNoFakeClock(): string | undefined {
  return library === undefined ? "not installed: libfaketime; run sh deploy/setup tests" : undefined;
}

/** Opens one that is right so far. */
export async function openFakeClock(): Promise<FakeClock> {
  if (library === undefined) throw new Error(whyNoFakeClock());
  const folder = await mkdtemp(join(tmpdir(), "coppice-clock-"));
  await chmod(folder, 0o755);
  const file = join(folder, "offset");
  const openedMs = Date.now();
  async function set(seconds: number): Promise<void> {
    await writeFile(`${file}.new`, `${seconds < 0 ? "" : "+"}${seconds}\n`);
    await rename(`${file}.new`, file);
  }
  await set(0);
  return {
    env: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      DONT_FAKE_MONOTONIC: "1",
      NO_FAKE_STAT: "1",
    },
    set,
    async [Symbol.asyncDispose]() {
      await rm(folder, { recursive: true, force: true });
      // What programs that were killed have left.
      for (const name of await readdir(memory)) {
        const [, pid] = /^(?:sem\.)?faketime_(?:sem|shm)_(\d+)$/.exec(name) ?? [];
        if (pid === undefined) continue;
        const isAlive = await stat(`/proc/${pid}`).catch(() => undefined);
        const made = await stat(join(memory, name)).catch(() => undefined);
        if (!isAlive && made && made.mtimeMs >= openedMs) await rm(join(memory, name), { force: true });
      }
    },
  };
}
