import { Argument, type Command } from "commander";
import { addCommand, type Execute } from "../command.ts";
import { formatBashCompletion } from "../completion/bash.ts";
import { type CompletionNode, describeCommands } from "../completion/describe.ts";
import { formatFishCompletion } from "../completion/fish.ts";
import { formatZshCompletion } from "../completion/zsh.ts";

const shells: Readonly<Record<string, (root: CompletionNode) => string>> = {
  bash: formatBashCompletion,
  zsh: formatZshCompletion,
  fish: formatFishCompletion,
};

/** `coppice completion`; `root` gives the whole tree, which is complete only after this command was added. */
export function addCompletionCommand(program: Command, execute: Execute, root: () => Command): void {
  addCommand(program, execute, {
    name: "completion",
    summary: "print the completions for a shell",
    arguments: [new Argument("<shell>", "the shell").choices(Object.keys(shells))],
    examples: [
      "coppice completion bash > /etc/bash_completion.d/coppice",
      'coppice completion zsh > "${fpath[1]}/_coppice"',
      "coppice completion fish > ~/.config/fish/completions/coppice.fish",
    ],
    run: async (session, _options, shell: string) => {
      const script = shells[shell]?.(describeCommands(root())) ?? "";
      await session.answer({ json: () => ({ shell, script }), table: () => script, names: () => [shell] });
    },
  });
}
