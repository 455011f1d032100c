import { type CheckItem, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { printable } from "../output/printable.ts";
import type { Terminal } from "../output/terminal.ts";

/** What a check looked at, a line each, with what mends it where something is wrong. */
export function formatChecks(items: readonly CheckItem[], paint: Terminal["paint"]): string {
  const width = Math.max(0, ...items.map(({ name }) => name.length));
  const marks = {
    [CheckStatus.UNSPECIFIED]: "?",
    [CheckStatus.OK]: paint("green", "✓"),
    [CheckStatus.WARNING]: paint("yellow", "!"),
    [CheckStatus.FAILED]: paint("red", "✗"),
  };
  return items
    .map(({ name, status, message, fix }) => {
      const line = `  ${marks[status] ?? "?"} ${printable(name).padEnd(width)}  ${printable(message)}\n`;
      return fix ? `${line}    fix: ${printable(fix)}\n` : line;
    })
    .join("");
}
