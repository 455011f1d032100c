import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";

/** A program that runs beside the test, its output in a file. */
export interface Background extends AsyncDisposable {
  readonly pid: number;
  readonly logFile: string;
  /** Resolves with what ended it: an exit code or a signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** Sends the signal and waits for the end. */
  end(signal: NodeJS.Signals): Promise<void>;
  /** Sends a signal and does not wait. */
  signal(signal: NodeJS.Signals): void;
}

/** Starts a program in the background; disposing of it ends it by SIGTERM, and by SIGKILL after 10 s. */
export function startBackground(
  file: string,
  args: readonly string[],
  { logFile, env }: { readonly logFile: string; readonly env: NodeJS.ProcessEnv },
): Background {
  const log = openSync(logFile, "a");
  const child: ChildProcess = spawn(file, args, { env, cwd: "/", stdio: ["ignore", log, log] });
  closeSync(log);
  const ended = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  const { pid } = child;
  if (pid === undefined) throw new Error(`${file} did not start`);
  const isRunning = () => child.exitCode === null && child.signalCode === null;
  const end = async (signal: NodeJS.Signals) => {
    if (isRunning()) child.kill(signal);
    await ended;
  };
  return {
    pid,
    logFile,
    ended,
    end,
    signal: (signal) => void child.kill(signal),
    async [Symbol.asyncDispose]() {
      const kill = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await end("SIGTERM").finally(() => clearTimeout(kill));
    },
  };
}

/** The last lines of a background program's output, for a message. */
export async function lastLines(logFile: string, count = 15): Promise<string> {
  const text = await readFile(logFile, "utf8").catch(() => "");
  return text.trimEnd().split("\n").slice(-count).join("\n");
}
