import { Option } from "commander";
import { fail } from "@coppice/proto/kit/failure";
import type { Session } from "../session.ts";
import { ask } from "./ask.ts";
import { readSecretFromStdin } from "./read-stdin.ts";

/** Flags by which a password is given; it is never an argument itself. */
export interface PasswordOptions {
  readonly askPassword?: boolean;
  readonly passwordStdin?: boolean;
}

/** Those flags, for commands that take them. */
export const passwordOptions = () => [
  new Option("--ask-password", "ask for the role's password at the terminal"),
  new Option("--password-stdin", "read the role's password from standard input"),
];

/** The password that was typed or fed; undefined when no flag asks for one. Fails with INVALID_FIELD. */
export async function readPassword(session: Session, options: PasswordOptions): Promise<string | undefined> {
  const { terminal, signal } = session;
  if (options.passwordStdin) return await readSecretFromStdin(terminal.stdin, "password", signal);
  if (!options.askPassword) return undefined;
  if (!terminal.stdinIsTty) {
    fail("INVALID_FIELD", "standard input is no terminal", { hint: "feed the password with --password-stdin" });
  }
  const password = await ask(session, "password: ", { hidden: true });
  return password || fail("INVALID_FIELD", "no password was given");
}
