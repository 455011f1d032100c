import type { Command } from "commander";

/** An option as the shells need to know it. */
export interface CompletionOption {
  /** `-o` and `--output`, where there are both. */
  readonly flags: readonly string[];
  readonly description: string;
  /** Whether a value follows. */
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

/** A command as the shells need to know it. */
export interface CompletionNode {
  /** Name and alias. */
  readonly names: readonly [string, ...string[]];
  readonly description: string;
  readonly options: readonly CompletionOption[];
  /** Words that its first argument may be, where they are known. */
  readonly words: readonly string[];
  readonly children: readonly CompletionNode[];
}

/** The tree of commands as plain values. */
export function describeCommands(command: Command): CompletionNode {
  const options = command.createHelp().visibleOptions(command);
  return {
    names: [command.name(), ...command.aliases()],
    description: command.description(),
    options: options.map(({ short, long, description, required, optional, argChoices }) => ({
      flags: [short, long].filter((flag) => flag !== undefined),
      description,
      takesValue: required || optional,
      choices: argChoices ?? [],
    })),
    words: command.registeredArguments[0]?.argChoices ?? [],
    children: command.commands.map(describeCommands),
  };
}

/** Every command with its full path of canonical names, and the ways to step from one to the next. */
export function walkCommands(root: CompletionNode): { readonly path: string; readonly node: CompletionNode }[] {
  const walk = (node: CompletionNode, path: string): { path: string; node: CompletionNode }[] => [
    { path, node },
    ...node.children.flatMap((child) => walk(child, `${path} ${child.names[0]}`)),
  ];
  return walk(root, root.names[0]);
}

/** Steps from a command to one below it: the path so far with the word typed, and the path that comes of it. */
export function stepsOf(root: CompletionNode): { readonly typed: string; readonly path: string }[] {
  return walkCommands(root).flatMap(({ path, node }) =>
    node.children.flatMap(({ names }) =>
      names.map((name) => ({ typed: `${path} ${name}`, path: `${path} ${names[0]}` })),
    ),
  );
}
