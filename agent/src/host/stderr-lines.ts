import { StringDecoder } from "node:string_decoder";

const longestLine = 4000;
const mostLines = 10_000;
const keptLines = 20;

/** What a program writes to stderr, as lines, in bounded memory however much it is. */
export interface StderrLines {
  take(chunk: Buffer): void;
  /** After the last chunk. */
  end(): void;
  /** The last 20 lines so far. */
  tail(): string[];
}

/**
 * Cuts stderr into lines of at most 4,000 characters and hands the first 10,000 to `onLine`, then one that says that
 * the rest is left out. Lines that `hides` picks are in neither of them.
 */
export function stderrLines(onLine: (line: string) => void, hides: (line: string) => boolean): StderrLines {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  let lines = 0;
  let kept: string[] = [];

  const line = (text: string) => {
    const shown = text.endsWith("\r") ? text.slice(0, -1) : text;
    if (shown === "" || hides(shown)) return;
    kept.push(shown);
    if (kept.length > 2 * keptLines) kept = kept.slice(-keptLines);
    lines++;
    if (lines <= mostLines) onLine(shown);
    else if (lines === mostLines + 1) onLine(`more than ${mostLines} lines, the rest is left out`);
  };

  return {
    take(chunk) {
      const parts = decoder.write(chunk).split("\n");
      parts[0] = (rest + (parts[0] ?? "")).slice(0, longestLine);
      rest = (parts.pop() ?? "").slice(0, longestLine);
      for (const part of parts) line(part.slice(0, longestLine));
    },
    end() {
      line(rest);
      rest = "";
    },
    tail: () => kept.slice(-keptLines),
  };
}
