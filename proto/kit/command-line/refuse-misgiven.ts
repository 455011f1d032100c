import { fail } from "../failure.ts";

/** What is looked at of a command of the library that parses command lines. */
interface CommandLine {
  readonly options: readonly {
    readonly long?: string | undefined;
    readonly required: boolean;
    readonly optional: boolean;
    attributeName(): string;
    name(): string;
  }[];
  readonly commands: readonly CommandLine[];
  readonly registeredArguments: readonly { name(): string }[];
  readonly args: readonly string[];
  getOptionValue(key: string): unknown;
  on(event: string, listener: (value: unknown) => void): unknown;
  hook(event: "preAction", listener: (command: CommandLine, action: CommandLine) => void): unknown;
}

/**
 * Has every command below `program` refuse a flag that takes one value and is given twice, where else the last one would
 * count in silence, and an empty value or argument, where else it would count as none. Flags made to be repeated gather
 * their values in a list and stay. For the finished tree. Errors, when a line is parsed: INVALID_FIELD.
 */
export function refuseMisgiven(program: CommandLine): void {
  program.hook("preAction", (_, action) => {
    const at = action.args.indexOf("");
    if (at >= 0) refuseEmpty(`<${action.registeredArguments[at]?.name() ?? "argument"}>`);
  });
  watchFlags(program);
}

function watchFlags(command: CommandLine): void {
  for (const option of command.options) {
    if (!option.required && !option.optional) continue;
    const flag = option.long ?? `--${option.name()}`;
    let isGiven = false;
    command.on(`option:${option.name()}`, (value) => {
      if (value === "") refuseEmpty(flag);
      // The value as it has become by now: what is repeated is a list or a record.
      if (isGiven && typeof command.getOptionValue(option.attributeName()) !== "object") {
        fail("INVALID_FIELD", `${flag} is given more than once, and it takes one value`, {
          hint: `leave one ${flag} and its value`,
        });
      }
      isGiven = true;
    });
  }
  for (const child of command.commands) watchFlags(child);
}

function refuseEmpty(what: string): never {
  return fail("INVALID_FIELD", `${what} is given and empty`, {
    hint: "give a value or leave it out; perhaps a variable in the command line is not set",
  });
}
