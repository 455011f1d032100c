const unquoted: Readonly<Record<string, string>> = { "*": ".*", "?": ".", $: String.raw`\$`, "[]": String.raw`\[\]` };

/**
 * The parts of a pattern of pg_dump, such as a schema and a table, each as the regular expression that pg_dump has the
 * server match names with.
 */
export function patternParts(pattern: string): string[] {
  const parts = [""];
  const add = (text: string) => parts.push(`${parts.pop() ?? ""}${text}`);
  for (const [token, quoted] of pattern.matchAll(/"((?:[^"]|"")*)"?|\[\]|./gsu)) {
    if (quoted !== undefined) add(quoted.replaceAll('""', '"').replaceAll(/[|*+?()[\]{}.^$\\]/g, String.raw`\$&`));
    else if (token === ".") parts.push("");
    else add(unquoted[token] ?? token.toLowerCase());
  }
  return parts.map((part) => `^(${part})$`);
}
