import { type CompletionNode, stepsOf, walkCommands } from "./describe.ts";

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
// In a list of \`_describe\` a colon parts the word from what it means.
const item = (word: string, description: string) => quote(`${word.replaceAll(":", "\\:")}:${description}`);

/** The completions for zsh, as the file _coppice in a folder of fpath. */
export function formatZshCompletion(root: CompletionNode): string {
  const name = root.names[0];
  const commands = walkCommands(root);
  const steps = stepsOf(root).map(({ typed, path }) => `      "${typed}") path_so_far="${path}" ;;`);
  const values = commands.flatMap(({ path, node }) =>
    node.options
      .filter(({ takesValue }) => takesValue)
      .map(({ flags, choices }) => {
        const pattern = flags.map((flag) => `"${path} ${flag}"`).join("|");
        return `    ${pattern}) ${choices.length > 0 ? `compadd -- ${choices.join(" ")}; ` : ""}return ;;`;
      }),
  );
  const items = commands.map(({ path, node }) => {
    const offered = [
      ...node.children.map(({ names, description }) => item(names[0], description)),
      ...node.words.map((word) => item(word, "")),
    ];
    const flags = node.options.flatMap(({ flags, description }) => flags.map((flag) => item(flag, description)));
    return `    "${path}") words_here=(${offered.join(" ")}); flags_here=(${flags.join(" ")}) ;;`;
  });
  return `#compdef ${name}
# completions of ${name} for zsh
_${name}() {
  local path_so_far="${name}" i
  local -a words_here flags_here
  for ((i = 2; i < CURRENT; i++)); do
    case "$path_so_far \${words[i]}" in
${steps.join("\n")}
    esac
  done
  case "$path_so_far \${words[CURRENT-1]}" in
${values.join("\n")}
  esac
  case "$path_so_far" in
${items.join("\n")}
  esac
  if [[ "\${words[CURRENT]}" == -* ]]; then
    _describe 'option' flags_here
  else
    _describe 'command' words_here
  fi
}
if [[ "$funcstack[1]" == "_${name}" ]]; then _${name} "$@"; else compdef _${name} ${name}; fi
`;
}
