/** The one of the words (at least one) that the text becomes by the fewest letters put in, taken out or replaced; the first of several. */
export function nearestWord(text: string, words: readonly string[]): string | undefined {
  let [nearest] = words;
  let least = Infinity;
  for (const word of words) {
    const changes = countChanges(text, word);
    if (changes >= least) continue;
    [nearest, least] = [word, changes];
  }
  return nearest;
}

/** Levenshtein's distance, a row of its table at a time. */
function countChanges(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (const [index, letter] of Array.from(from).entries()) {
    const next = [index + 1];
    for (const [at, other] of Array.from(to).entries()) {
      const replaced = (row[at] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
