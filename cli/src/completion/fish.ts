import { type CompletionNode, stepsOf, walkCommands } from "./describe.ts";

const quote = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

/** The completions for fish, as a file of its completions folder. */
export function formatFishCompletion(root: CompletionNode): string {
  const name = root.names[0];
  const steps = stepsOf(root).map(
    ({ typed, path }) => `            case ${quote(typed)}\n                set path ${quote(path)}`,
  );
  const lines = walkCommands(root).flatMap(({ path, node }) => {
    const begin = `complete -c ${name} -n ${quote(`__${name}_at ${quote(path)}`)}`;
    return [
      ...node.children.map(({ names, description }) => `${begin} -a ${names[0]} -d ${quote(description)}`),
      ...node.words.map((word) => `${begin} -a ${word}`),
      ...node.options.map(({ flags, description, takesValue, choices }) => {
        const spelled = flags.map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
        const value = takesValue ? ` -x${choices.length > 0 ? ` -a ${quote(choices.join(" "))}` : ""}` : "";
        return `${begin} ${spelled.join(" ")}${value} -d ${quote(description)}`;
      }),
    ];
  });
  return `# completions of ${name} for fish
function __${name}_at
    set -l path ${name}
    for word in (commandline -opc)[2..-1]
        switch "$path $word"
${steps.join("\n")}
        end
    end
    test "$path" = "$argv[1]"
end
complete -c ${name} -f
${lines.join("\n")}
`;
}
