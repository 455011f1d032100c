import { isFailure } from "@coppice/proto/kit/failure";
import { formatDuration, parseDuration } from "@coppice/proto/kit/duration";
import { InvalidArgumentError, Option } from "commander";

/** An option that takes a whole number of the range. */
export function integerOption(flags: string, description: string, min: number, max: number): Option {
  return new Option(flags, description).argParser((text: string) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
  });
}

/** An option that takes a time such as `30s` or `1h30m` of the range; its value is in milliseconds. */
export function durationOption(flags: string, description: string, minMs: number, maxMs: number): Option {
  const expected = `Expected a time from ${formatDuration(minMs)} to ${formatDuration(maxMs)}, such as 1m30s.`;
  return new Option(flags, description).argParser((text: string) => {
    try {
      const ms = parseDuration(text);
      if (ms >= minMs && ms <= maxMs) return ms;
    } catch (error) {
      if (!isFailure(error)) throw error;
    }
    throw new InvalidArgumentError(expected);
  });
}

/** An option that may be given again and again; its value is the list of texts. */
export function repeatableOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text: string, before: string[] | undefined) => [
    ...(before ?? []),
    text,
  ]);
}

/** `--label key=value`, again and again; its value is the record of them. */
export function labelOption(): Option {
  const parse = (text: string, before: Record<string, string> | undefined) => {
    const at = text.indexOf("=");
    if (at < 1) throw new InvalidArgumentError("Expected key=value.");
    return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
  };
  return new Option("--label <key=value>", "label (may be repeated)").argParser(parse);
}

/** `--host`, for work on a repository that several hosts can do. */
export const hostOption = (what: string) =>
  new Option("--host <host>", `${what} from this host (its home host, or one that is connected)`);

/** `--yes`. */
export const yesOption = () => new Option("-y, --yes", "do not ask for a confirmation");

/** `--dry-run`, for what the control plane can check without doing it. */
export const dryRunOption = () => new Option("--dry-run", "only check the request and change nothing");

/** `--limit`. */
export const limitOption = () =>
  integerOption("--limit <n>", "most entries to show, the newest first", 1, 100_000).default(50);

/** What commands that start an operation can do about it. */
export const operationOptions = () => [
  new Option("--no-wait", "return as soon as the operation is started"),
  new Option("--cancel-on-interrupt", "cancel the operation on Ctrl-C, where else it goes on"),
];
