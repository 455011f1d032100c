import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";

/** How a program ended, and what it said. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; a test asserts on how that was. */
export async function runProgram(
  file: string,
  args: readonly string[],
  {
    env,
    input = "",
    signal,
  }: { readonly env: NodeJS.ProcessEnv; readonly input?: string; readonly signal?: AbortSignal },
): Promise<Ended> {
  const child = spawn(file, args, { env, cwd: "/", stdio: "pipe", ...(signal ? { signal } : {}) });
  // A program that ends before it has read its input says why by its status.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const [stdout, stderr, [code, endSignal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>,
  ]);
  return { code, signal: endSignal, stdout, stderr };
}
