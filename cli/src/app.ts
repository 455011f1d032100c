import { type Command, CommanderError } from "commander";
import { Failure, fail, toFailure } from "@coppice/proto/kit/failure";
import type { Execute } from "./command.ts";
import { exitCodeOf, exitCodes } from "./exit-code.ts";
import { openInterrupts } from "./interrupts.ts";
import { type OutputFormat, outputFormats } from "./output/answer.ts";
import { formatFailure } from "./output/failure.ts";
import { openTerminal } from "./output/terminal.ts";
import { openSession } from "./session.ts";
import { createCommandTree } from "./tree.ts";

/** Runs the command line of the process and gives its exit code; every failure has been printed. */
export async function runProgram(host: NodeJS.Process, version: string): Promise<number> {
  const terminal = openTerminal(host);
  using interrupts = openInterrupts(host);
  let exitCode: number = exitCodes.done;
  const execute: Execute = async (common, work) => {
    const format = parseFormat(common.output ?? terminal.env.COPPICE_OUTPUT);
    using session = openSession({ terminal, format, interrupts, context: common.context });
    try {
      exitCode = (await work(session)) ?? exitCodes.done;
    } catch (error) {
      // Only a call throws the library's error, so there is a connection.
      if (!(error instanceof Error) || error.name !== "ConnectError") throw error;
      throw (await session.api()).failureOf(error);
    }
  };
  const program = createCommandTree(execute, terminal, version);
  const words = host.argv.slice(2);
  try {
    await program.parseAsync(withHelpLast(program, words), { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return exitCodes.done;
    if (error instanceof CommanderError && error.code === "commander.help") return exitCodes.usage;
    if (interrupts.signal.aborted) return exitCodes.interrupted;
    const failure =
      error instanceof CommanderError ? usageFailure(error, commandPath(program, words)) : shownFailure(error);
    terminal.err(formatFailure(failure, terminal.paintErr));
    return exitCodeOf(failure);
  }
}

function parseFormat(text: string | undefined): OutputFormat {
  const format = outputFormats.find((format) => format === (text || "table"));
  return (
    format ?? fail("INVALID_FIELD", `${text} is not a format of output`, { hint: `use ${outputFormats.join(", ")}` })
  );
}

/** `help restore create` as `restore create --help`: the library looks one command deep. */
function withHelpLast(program: Command, [first, ...path]: readonly string[]): string[] {
  if (first !== "help" || path.length === 0) return first === undefined ? [] : [first, ...path];
  const known = commandPath(program, path);
  const unknown = path[known.split(" ").length - 1];
  if (unknown === undefined || unknown.startsWith("-")) return [...path, "--help"];
  return fail("INVALID_FIELD", `unknown command '${unknown}'`, { hint: `see \`${known} --help\`` });
}

/** The command that a command line names, as far as it is known: `coppice backup create`. */
function commandPath(program: Command, words: readonly string[]): string {
  const path = [program.name()];
  let command: Command | undefined = program;
  for (const word of words) {
    command = command.commands.find((each) => each.name() === word || each.aliases().includes(word));
    if (!command) break;
    path.push(command.name());
  }
  return path.join(" ");
}

/** Commander's message in our words: what is wrong, and as the hint what was probably meant. */
function usageFailure(error: CommanderError, path: string): Failure {
  const [first = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const meant = /Did you mean (?:one of )?(.+)\?\)/.exec(suggestion ?? "")?.[1];
  return new Failure("INVALID_FIELD", first, {
    hint: meant
      ? `did you mean ${meant
          .split(", ")
          .map((word) => `\`${path} ${word}\``)
          .join(" or ")}?`
      : `see \`${path} --help\``,
  });
}

/** A failure fit to be shown, whatever was thrown. */
function shownFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const failure = toFailure(error);
  if (failure.reason !== "INTERNAL") return failure;
  const what = error instanceof Error ? `${error.name}: ${error.message.split("\n")[0]}` : String(error);
  return new Failure("INTERNAL", `this is a fault of the program itself: ${what}`, {
    hint: "please report it, with the command and `coppice --version`",
  });
}
