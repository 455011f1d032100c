import { fail } from "./failure.ts";

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
  ["ms", 1],
] as const;

/** Milliseconds of a duration like `30s`, `1h30m` or `14d`, largest unit first. Fails with INVALID_FIELD. */
export function parseDuration(text: string): number {
  const match = /^(?:(\d{1,6})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?$/.exec(text);
  if (!match || text === "") fail("INVALID_FIELD", `${JSON.stringify(text)} is not a duration like 30s, 1h30m or 14d`);
  return units.reduce((sum, [, factor], index) => sum + Number(match[index + 1] ?? 0) * factor, 0);
}

/** The shortest text that parseDuration reads back as the same whole milliseconds: `90000` is `1m30s`. */
export function formatDuration(ms: number): string {
  let rest = Math.round(ms);
  let text = "";
  for (const [unit, factor] of units) {
    const count = Math.floor(rest / factor);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * factor;
  }
  return text || "0s";
}
