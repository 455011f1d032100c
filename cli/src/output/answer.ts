import type { JsonValue } from "@bufbuild/protobuf";
import type { Terminal } from "./terminal.ts";

/** How answers are written. */
export const outputFormats = ["table", "json", "yaml", "name"] as const;
export type OutputFormat = (typeof outputFormats)[number];

/** One answer in each of its forms; only the wanted one is made. */
export interface Answer {
  readonly json: () => JsonValue;
  readonly table: () => string;
  /** Names, or ids of what has no name, one a line. */
  readonly names: () => readonly string[];
}

/** Writes an answer to standard output in the wanted format. */
export async function writeAnswer(terminal: Terminal, format: OutputFormat, answer: Answer): Promise<void> {
  switch (format) {
    case "table":
      terminal.out(answer.table());
      return;
    case "json":
      terminal.out(`${JSON.stringify(answer.json(), null, 2)}\n`);
      return;
    case "yaml": {
      const { stringify } = (await import("yaml")).default;
      terminal.out(stringify(answer.json()));
      return;
    }
    case "name":
      for (const name of answer.names()) terminal.out(`${name}\n`);
  }
}
