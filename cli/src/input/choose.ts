import { fail } from "@coppice/proto/kit/failure";
import { printable } from "../output/printable.ts";
import type { Session } from "../session.ts";

/** One thing that can be chosen. */
export interface Choice<Value> {
  readonly name: string;
  readonly value: Value;
  /** Why it cannot be chosen. */
  readonly disabled?: string | undefined;
}

/** Questions at a terminal; each ends with the session's signal, and Ctrl-C at any of them ends the program. */
export interface Dialogue {
  select<Value>(message: string, choices: readonly Choice<Value>[]): Promise<Value>;
  /** At least one of them. */
  selectMany<Value>(message: string, choices: readonly Choice<Value>[]): Promise<Value[]>;
  /** `check` gives what is wrong with an answer; undefined when it will do. */
  text(
    message: string,
    options?: { initial?: string; check?: (answer: string) => string | undefined },
  ): Promise<string>;
  agree(message: string): Promise<boolean>;
}

/** Opens a dialogue. Fails with INVALID_FIELD, and the hint, where there is no terminal to hold it at. */
export async function openDialogue(session: Session, hint: string): Promise<Dialogue> {
  const { terminal, signal, interrupts } = session;
  if (!terminal.stdinIsTty || !terminal.stderrIsTty) fail("INVALID_FIELD", "there is no terminal to ask at", { hint });
  const prompts = await import("@inquirer/prompts");
  const context = { input: terminal.stdin, output: terminal.stderr, signal };
  const ask = async <Answer>(question: Promise<Answer>): Promise<Answer> => {
    try {
      return await question;
    } catch (error) {
      // In raw mode Ctrl-C is a key, which the library takes.
      if (error instanceof Error && error.name === "ExitPromptError") interrupts.interrupt();
      throw error;
    }
  };
  const shown = <Value>(choices: readonly Choice<Value>[]) =>
    choices.map(({ name, value, disabled }) => ({ name: printable(name), value, disabled: disabled ?? false }));
  return {
    select: (message, choices) => ask(prompts.select({ message, choices: shown(choices), pageSize: 12 }, context)),
    selectMany: (message, choices) =>
      ask(prompts.checkbox({ message, choices: shown(choices), required: true, pageSize: 12 }, context)),
    text: (message, { initial, check } = {}) =>
      ask(
        prompts.input(
          {
            message,
            ...(initial === undefined ? {} : { default: initial }),
            validate: (answer) => (check ?? requireText)(answer) ?? true,
          },
          context,
        ),
      ),
    agree: (message) => ask(prompts.confirm({ message, default: false }, context)),
  };
}

function requireText(answer: string): string | undefined {
  return answer.trim() === "" ? "type a name" : undefined;
}
