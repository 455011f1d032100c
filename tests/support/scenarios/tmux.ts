import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "../installation.ts";
import { runProgram } from "../run-program.ts";

/** A real terminal with one program in it, as a person sits before it. */
export interface Tmux extends AsyncDisposable {
  /** Starts a program in a clear terminal; the one before must have ended. */
  run(env: NodeJS.ProcessEnv, command: readonly string[]): Promise<void>;
  /** Presses keys by their names: Enter, Space, Down, C-c, or a character. */
  press(...keys: readonly string[]): Promise<void>;
  type(text: string): Promise<void>;
  /** Waits until the screen, its lines unwrapped, looks like that, and gives it. */
  shows(pattern: RegExp): Promise<string>;
  /** Waits until the program has ended. */
  exitCode(): Promise<number>;
}

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Starts a server of tmux of its own; disposing ends it with whatever runs in it. */
export async function openTmux(): Promise<Tmux> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-tmux-"));
  let servers = 0;
  const exitFile = join(folder, "exit");
  let isRunning = false;
  const env = { PATH: process.env["PATH"], LANG: "C.UTF-8", HOME: folder, TERM: "xterm" };
  const tmux = async (...args: string[]) => {
    const { code, stdout, stderr } = await runProgram(
      "tmux",
      ["-S", join(folder, `server-${servers}`), "-f", "/dev/null", ...args],
      { env },
    );
    if (code !== 0) throw new Error(`tmux ${args[0]}: ${stderr}`);
    return stdout;
  };
  const screen = () => tmux("capture-pane", "-p", "-J", "-t", "it");
  const end = async () => {
    if (isRunning) await tmux("kill-server");
    isRunning = false;
  };
  return {
    async run(given, command) {
      await end();
      // A server of its own: one that is asked to end may still be there when the next one is wanted.
      servers += 1;
      await rm(exitFile, { force: true });
      const variables = Object.entries(given).flatMap(([name, value]) =>
        value === undefined ? [] : [`${name}=${value}`],
      );
      const line = ["env", ...variables, ...command].map(quote).join(" ");
      // The shell stays, so that the last screen can be read.
      const script = `stty -echoctl; ${line}; echo $? > ${quote(`${exitFile}.new`)}; mv ${quote(`${exitFile}.new`)} ${quote(exitFile)}; exec cat`;
      await tmux("new-session", "-d", "-s", "it", "-x", "150", "-y", "60", "sh", "-c", script);
      isRunning = true;
    },
    press: async (...keys) => {
      for (const key of keys) await tmux("send-keys", "-t", "it", key);
    },
    type: async (text) => void (await tmux("send-keys", "-t", "it", "-l", text)),
    async shows(pattern) {
      let seen = "";
      try {
        return await waitFor(`the terminal shows ${pattern}`, async () => {
          seen = await screen();
          return pattern.test(seen) && seen;
        });
      } catch (error) {
        throw new Error(`the terminal does not show ${pattern}:\n${seen}`, { cause: error });
      }
    },
    exitCode: () =>
      waitFor("the program has ended", async () => {
        const text = await readFile(exitFile, "utf8").catch((error: unknown) => {
          if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
          throw error;
        });
        return text === undefined ? undefined : { code: Number(text) };
      }).then(({ code }) => code),
    async [Symbol.asyncDispose]() {
      await end();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
