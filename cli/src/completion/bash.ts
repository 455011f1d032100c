import { type CompletionNode, stepsOf, walkCommands } from "./describe.ts";

/** The completions for bash, as a script to be sourced. */
export function formatBashCompletion(root: CompletionNode): string {
  const name = root.names[0];
  const commands = walkCommands(root);
  const steps = stepsOf(root).map(({ typed, path }) => `      "${typed}") path="${path}" ;;`);
  const values = commands.flatMap(({ path, node }) =>
    node.options
      .filter(({ takesValue }) => takesValue)
      .map(({ flags, choices }) => {
        const pattern = flags.map((flag) => `"${path} ${flag}"`).join(" | ");
        return choices.length > 0
          ? `    ${pattern}) COMPREPLY=($(compgen -W "${choices.join(" ")}" -- "$cur")); return ;;`
          : `    ${pattern}) return ;;`;
      }),
  );
  const words = commands.map(({ path, node }) => {
    const offered = [
      ...node.children.map(({ names }) => names[0]),
      ...node.words,
      ...node.options.flatMap(({ flags }) => flags),
    ];
    return `    "${path}") words="${offered.join(" ")}" ;;`;
  });
  return `# completions of ${name} for bash
_${name}() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" path="${name}" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
${steps.join("\n")}
    esac
  done
  COMPREPLY=()
  case "$path $prev" in
${values.join("\n")}
  esac
  case "$path" in
${words.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _${name} ${name}
`;
}
