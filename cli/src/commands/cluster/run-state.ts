import { printable } from "../../output/printable.ts";

/** A server as an agent has found it. */
interface FoundServer {
  readonly running: boolean;
  /** Why it is not known whether it runs; empty when it is. */
  readonly runningUnknown: string;
  readonly dataDirectory: string;
}

/** For a table's cell; the reasons why it is unknown are too long for one and are said by describeUnknown. */
export function formatRunState({ running, runningUnknown }: FoundServer): string {
  if (runningUnknown !== "") return "unknown (see below)";
  return running ? "running" : "stopped";
}

/** Lines for under the table: of each server of which it is unknown whether it runs, why. */
export function describeUnknown(servers: readonly FoundServer[]): string {
  return servers
    .filter(({ runningUnknown }) => runningUnknown !== "")
    .map(
      ({ dataDirectory, runningUnknown }) => `  ${printable(dataDirectory)}: unknown (${printable(runningUnknown)})\n`,
    )
    .join("");
}
