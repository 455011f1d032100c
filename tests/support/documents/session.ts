import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { text } from "node:stream/consumers";
import { type Block, scriptOf } from "./blocks.ts";

/** How the blocks of a document ended. */
export interface SessionEnd {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where blocks run. */
export interface SessionPlace {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
}

/** The failed command with its line in the document; what runs in the background ends with the session. */
const prelude = [
  `set -Eeuo pipefail; trap 'echo "$0:$LINENO: this failed: $BASH_COMMAND" >&2' ERR; trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT`,
];

/**
 * Runs blocks of a document in order, in one session of bash that ends at the first command that fails. Gives how it
 * ended; a session that takes too long is killed with everything it started.
 */
export async function runBlocks(document: string, blocks: readonly Block[], place: SessionPlace): Promise<SessionEnd> {
  const { folder, env, timeoutMs } = place;
  const name = basename(document);
  await writeFile(join(folder, name), scriptOf(blocks, prelude));
  const child = spawn("bash", [name], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const { pid } = child;
  if (pid === undefined) throw new Error("bash did not start");
  const killAll = () => {
    try {
      process.kill(-pid, "SIGKILL");
    } catch (error) {
      // Nothing is left of it.
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
    }
  };
  const timer = setTimeout(killAll, timeoutMs);
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "exit") as Promise<[number | null]>,
  ]);
  clearTimeout(timer);
  killAll();
  return { code, stdout, stderr };
}
