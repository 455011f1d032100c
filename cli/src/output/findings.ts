import { type Finding, Severity, SeveritySchema } from "@coppice/proto/gen/coppice/control/v1/finding";
import { formatRelative } from "./elapsed.ts";
import { enumLabel } from "./enum-label.ts";
import { printable } from "./printable.ts";
import type { Terminal } from "./terminal.ts";
import { timeOf } from "./time.ts";

/** Findings, each with since when it is so and the command that mends it. */
export function formatFindings(findings: readonly Finding[], paint: Terminal["paint"], now: Date): string {
  return findings
    .map(({ severity, message, sinceTime, fix }) => {
      const mark = severity === Severity.CRITICAL ? paint("red", "✗") : paint("yellow", "!");
      const since = sinceTime ? ` (${formatRelative(timeOf(sinceTime), now)})` : "";
      const line = `${mark} ${enumLabel(SeveritySchema, severity)}: ${printable(message)}${since}\n`;
      return fix ? `${line}  next: ${printable(fix)}\n` : line;
    })
    .join("");
}
