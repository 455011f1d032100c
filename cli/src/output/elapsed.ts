const units = [
  ["d", 86_400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
] as const;

/** A length of time for people, in two units at most: `14 s`, `3 min 20 s`, `2 d 4 h`. */
export function formatElapsed(ms: number, mostUnits: 1 | 2 = 2): string {
  if (ms < 950) return ms < 50 ? "0 s" : `${(Math.round(ms / 100) / 10).toString()} s`;
  let seconds = Math.round(ms / 1000);
  const first = units.findIndex(([, factor]) => seconds >= factor);
  const parts: string[] = [];
  for (const [unit, factor] of units.slice(first, first + mostUnits)) {
    const count = Math.floor(seconds / factor);
    seconds -= count * factor;
    if (count > 0) parts.push(`${count} ${unit}`);
  }
  return parts.join(" ");
}

/** How long ago, or how soon, in one unit: `3 min ago`, `in 28 min`, `just now`; `-` for no time. */
export function formatRelative(time: Date | undefined, now: Date): string {
  if (!time) return "-";
  const difference = now.getTime() - time.getTime();
  const seconds = Math.round(Math.abs(difference) / 1000);
  if (seconds < 2) return "just now";
  const [unit, factor] = units.find(([, factor]) => seconds >= factor) ?? ["s", 1];
  const text = `${Math.floor(seconds / factor)} ${unit}`;
  return difference < 0 ? `in ${text}` : `${text} ago`;
}
