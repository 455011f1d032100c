import { randomUUID } from "node:crypto";
import type { Api } from "./client/api.ts";
import type { Interrupts } from "./interrupts.ts";
import { type Answer, type OutputFormat, writeAnswer } from "./output/answer.ts";
import { formatSuccess } from "./output/success.ts";
import type { Terminal } from "./output/terminal.ts";
import { profileFolder, readProfileFile } from "./profile/profile-file.ts";
import { resolveTarget } from "./profile/target.ts";

/** What one run of a command works with. */
export interface Session extends Disposable {
  readonly terminal: Terminal;
  readonly format: OutputFormat;
  readonly interrupts: Interrupts;
  /** Ends with the first Ctrl-C, unless the command has taken that over. */
  readonly signal: AbortSignal;
  /** Folder of the profiles. */
  readonly folder: string;
  /** The control plane of the profile; connected when it is first asked for. */
  readonly api: () => Promise<Api>;
  /** A random id for one request, so that it can be repeated safely. */
  readonly newRequestId: () => string;
  readonly now: () => Date;
  /** Writes the answer in the wanted format. */
  readonly answer: (answer: Answer) => Promise<void>;
  /** `✓ message`, facts and `next:`, as a table's answer. */
  readonly success: (message: string, options?: Parameters<typeof formatSuccess>[2]) => string;
}

/** Opens a session; nothing is read or connected yet. Disposing closes the connection. */
export function openSession({
  terminal,
  format,
  interrupts,
  context,
}: {
  readonly terminal: Terminal;
  readonly format: OutputFormat;
  readonly interrupts: Interrupts;
  /** Value of `--context`. */
  readonly context: string | undefined;
}): Session {
  const folder = profileFolder(terminal.env);
  const { signal } = interrupts;
  let opening: Promise<Api> | undefined;
  let opened: Api | undefined;
  const connect = async () => {
    const target = resolveTarget(await readProfileFile(folder), terminal.env, context);
    const [{ openApi }, { openTrustedRoot }] = await Promise.all([
      import("./client/api.ts"),
      import("./client/trusted-root.ts"),
    ]);
    opened = openApi(target, await openTrustedRoot(target, folder, signal), signal);
    return opened;
  };
  return {
    terminal,
    format,
    interrupts,
    signal,
    folder,
    api: () => (opening ??= connect()),
    newRequestId: randomUUID,
    now: () => new Date(),
    answer: (answer) => writeAnswer(terminal, format, answer),
    success: (message, options) => formatSuccess(terminal.paint, message, options),
    [Symbol.dispose]: () => opened?.[Symbol.dispose](),
  };
}
