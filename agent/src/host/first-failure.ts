import { isSuccess, type ProgramEnd } from "./launch.ts";

/**
 * The program whose end is why a chain failed, or undefined when it did not. `ends` is in the order of the chain,
 * `exits` the order in which they ended. One that only lost its reader is not the cause while a program behind it
 * failed by itself.
 */
export function firstFailure(
  ends: readonly ProgramEnd[],
  exits: readonly number[],
  mayStopEarly: boolean,
): ProgramEnd | undefined {
  const last = ends.at(-1);
  const isCause = (end: ProgramEnd, index: number) => {
    if (isSuccess(end)) return false;
    if (!hasLostReader(end)) return true;
    if (mayStopEarly && last && isSuccess(last)) return false;
    return ends.slice(index + 1).every(isSuccess);
  };
  const causes = ends.filter(isCause);
  return causes.toSorted((a, b) => exits.indexOf(ends.indexOf(a)) - exits.indexOf(ends.indexOf(b)))[0];
}

// The pipes are socket pairs, where a reader that died with bytes unread shows as a reset connection. A tool that lost
// its server says much the same of sending and receiving; of writing, it speaks of its output.
function hasLostReader({ signal, stderr }: ProgramEnd): boolean {
  return signal === "SIGPIPE" || stderr.some((line) => /\bwrite\b.*(broken pipe|connection reset by peer)/i.test(line));
}
