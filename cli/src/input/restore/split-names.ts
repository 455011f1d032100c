/**
 * The parts of a list that is separated by commas, blanks around them left out; a comma within double quotes separates
 * nothing, and the quotes stay. Undefined when a quote has no end.
 */
export function splitList(text: string): string[] | undefined {
  const parts = [""];
  let isQuoted = false;
  for (const character of text) {
    if (character === '"') isQuoted = !isQuoted;
    if (character === "," && !isQuoted) parts.push("");
    else parts.push((parts.pop() ?? "") + character);
  }
  return isQuoted ? undefined : parts.map((part) => part.trim());
}

/** A name as it is, of one that may be written in double quotes as in SQL. */
export function unquoteName(text: string): string {
  const [, quoted] = /^"((?:[^"]|"")+)"$/s.exec(text) ?? [];
  return quoted?.replaceAll('""', '"') ?? text;
}
