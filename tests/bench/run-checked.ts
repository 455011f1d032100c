import { runProgram } from "../support/run-program.ts";

/** Runs a program that must succeed and gives its standard output; fails with what it said. */
export async function runChecked(
  file: string,
  args: readonly string[],
  options: { readonly env: NodeJS.ProcessEnv; readonly signal: AbortSignal },
): Promise<string> {
  const { code, signal, stdout, stderr } = await runProgram(file, args, options);
  if (code !== 0) throw new Error(`${file} ended with ${code ?? signal}: ${stderr.trim() || stdout.trim()}`);
  return stdout;
}
