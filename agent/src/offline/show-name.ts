/** A name for a terminal: as it is, or quoted and escaped when it holds what a terminal obeys or a line ends with. */
export function showName(name: string): string {
  if (!/[\p{C}\u2028\u2029"]/u.test(name) && name.trim() === name && name !== "") return name;
  return JSON.stringify(name).replaceAll(
    /[\p{C}\u2028\u2029]/gu,
    (character) => `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`,
  );
}
