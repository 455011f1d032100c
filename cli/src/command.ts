import { Argument, type Command, Option } from "commander";
import { outputFormats } from "./output/answer.ts";
import type { Session } from "./session.ts";

/** A command of the tree: what help and completions show, and what it does. */
export interface CommandDefinition<Options> {
  /** Its name. */
  readonly name: string;
  readonly alias?: string;
  /** Whether it is what its group does when no command of it is named. */
  readonly isDefault?: boolean;
  readonly summary: string;
  /** `<cluster>` or `[cluster]`, and what it is. */
  readonly arguments?: readonly (Argument | readonly [usage: string, description: string])[];
  readonly options?: readonly Option[];
  /** Complete command lines. */
  readonly examples: readonly [string, ...string[]];
  /** Gives the exit code, where it is not 0. */
  readonly run: (session: Session, options: Options, ...args: string[]) => Promise<number | void>;
}

/** Options that every command has. */
export interface CommonOptions {
  readonly output?: string;
  readonly context?: string;
}

/** Runs a command's work with its common options. */
export type Execute = (common: CommonOptions, work: (session: Session) => Promise<number | void>) => Promise<void>;

/** Adds a command below `parent`. */
export function addCommand<Options extends object>(
  parent: Command,
  execute: Execute,
  definition: CommandDefinition<Options>,
): void {
  const { name, alias, isDefault = false, summary, options = [], examples, run } = definition;
  const command = parent.command(name, { isDefault }).description(summary);
  if (alias) command.alias(alias);
  for (const argument of definition.arguments ?? []) {
    command.addArgument(argument instanceof Argument ? argument : new Argument(...argument));
  }
  for (const option of options) command.addOption(option);
  command.addOption(new Option("-o, --output <format>", "how to write the answer").choices(outputFormats));
  command.addOption(new Option("--context <name>", "use this context in place of the current one"));
  command.addHelpText(
    "after",
    `\nExample${examples.length > 1 ? "s" : ""}:\n${examples.map((e) => `  ${e}\n`).join("")}`,
  );
  command.action(() =>
    execute(command.opts<CommonOptions>(), (session) => {
      // Commander has refused missing arguments; what is optional and not given is undefined at the end.
      const given = command.processedArgs.filter((argument) => typeof argument === "string");
      return run(session, command.opts<Options>(), ...given);
    }),
  );
}

/** Adds a noun whose commands are added below it. */
export function addGroup(parent: Command, name: string, summary: string, alias?: string): Command {
  const group = parent.command(name).description(summary);
  if (alias) group.alias(alias);
  return group.enablePositionalOptions();
}
