import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import type { Session } from "../session.ts";

/**
 * Asks a question at the terminal and gives the answer; what is typed in answer to a hidden one is not shown.
 * The caller has made sure that standard input is a terminal.
 */
export async function ask(
  { terminal, signal, interrupts }: Pick<Session, "terminal" | "signal" | "interrupts">,
  question: string,
  { hidden = false }: { readonly hidden?: boolean } = {},
): Promise<string> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  if (hidden) terminal.err(question);
  const lines = createInterface({ input: terminal.stdin, output: hidden ? silent : terminal.stderr, terminal: true });
  // In raw mode Ctrl-C comes as a key, Ctrl-D as the end of the input.
  lines.once("SIGINT", interrupts.interrupt);
  const ended = new Promise<string>((resolve) => lines.once("close", () => resolve("")));
  try {
    return await Promise.race([lines.question(hidden ? "" : question, { signal }), ended]);
  } finally {
    lines.close();
    if (hidden || signal.aborted) terminal.err("\n");
  }
}
