import { execFile } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const main = join(import.meta.dirname, "../main.ts");

/** Runs the program with its standard output redirected. */
function runInto(redirection: string, ...args: string[]): Promise<{ code: number; stderr: string }> {
  const { promise, resolve } = Promise.withResolvers<{ code: number; stderr: string }>();
  const line = ["-c", `exec "$0" "$@" ${redirection}`, process.execPath, "--no-warnings", main, ...args];
  const child = execFile("sh", line, (_error, _stdout, stderr) => resolve({ code: child.exitCode ?? -1, stderr }));
  return promise;
}

test.each([[["--version"]], [["--help"]], [["completion", "bash"]]])(
  "%j into a full disk ends with 1 and one line, no trace",
  async (args) => {
    expect(await runInto(">/dev/full", ...args)).toEqual({
      code: 1,
      stderr: "✗ standard output cannot be written: ENOSPC\n",
    });
  },
);
