import { createInterface } from "node:readline/promises";
import { fail } from "@coppice/proto/kit/failure";
import { showName } from "../show-name.ts";

/**
 * Lets a person at a terminal confirm by typing `name`. Fails with CONFIRMATION_NEEDED where that was not typed, or
 * nobody is there to type it, and nothing has been changed; with the signal's reason when it is aborted.
 */
export async function confirm({ what, name }: { readonly what: string; readonly name: string }, signal: AbortSignal) {
  const { stdin, stderr } = process;
  if (!stdin.isTTY) fail("CONFIRMATION_NEEDED", `${what}: this was not confirmed, nothing was changed`);
  stderr.write(`! ${what}\n`);
  // Not in raw mode: Ctrl-C stays a signal.
  const lines = createInterface({ input: stdin, output: stderr, terminal: false });
  const ended = new Promise<string>((resolve) => lines.once("close", () => resolve("")));
  try {
    const typed = await Promise.race([lines.question(`  type ${showName(name)} to go on: `, { signal }), ended]);
    if (typed.trim() !== showName(name)) fail("CONFIRMATION_NEEDED", "this was not confirmed, nothing was changed");
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    lines.close();
  }
}
