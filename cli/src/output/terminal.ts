import { styleText } from "node:util";
import { exitCodes } from "../exit-code.ts";

type Style = "bold" | "dim" | "red" | "green" | "yellow";

/** Where the program reads and writes, and what that can show. */
export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: NodeJS.ReadStream;
  readonly stderr: NodeJS.WriteStream;
  readonly stdinIsTty: boolean;
  readonly stderrIsTty: boolean;
  /** Columns of the terminal that standard error is; 80 where it is none. */
  readonly columns: () => number;
  /** Writes answers. */
  readonly out: (text: string) => void;
  /** Writes everything else: failures, progress, questions. */
  readonly err: (text: string) => void;
  /** Paints text for standard output, where that is a terminal that wants colour. */
  readonly paint: (style: Style, text: string) => string;
  /** The same for standard error. */
  readonly paintErr: (style: Style, text: string) => string;
}

/**
 * The terminal of a process. A reader that goes away, as `| head` does, ends the program quietly; output that cannot be
 * written for another reason, such as a full disk, ends it with one line on standard error and exit code 1.
 */
export function openTerminal(host: NodeJS.Process): Terminal {
  const { env, stdin, stdout, stderr } = host;
  for (const stream of [stdout, stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") host.exit();
      if (stream === stdout) stderr.write(`✗ standard output cannot be written: ${error.code ?? error.message}\n`);
      host.exit(exitCodes.failed);
    });
  }
  const wantsColor = !env.NO_COLOR && env.TERM !== "dumb";
  const painter = (isTty: boolean) => (style: Style, text: string) =>
    isTty && wantsColor ? styleText(style, text, { validateStream: false }) : text;
  return {
    env,
    stdin,
    stderr,
    stdinIsTty: stdin.isTTY,
    stderrIsTty: stderr.isTTY,
    columns: () => stderr.columns || 80,
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    paint: painter(stdout.isTTY),
    paintErr: painter(stderr.isTTY),
  };
}
