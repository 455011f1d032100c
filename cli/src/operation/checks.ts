import { type AppliedStatement, type CheckItem, CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
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

/** The statements that mend items and take effect without a restart, each once, in order. */
export function liveStatements(items: readonly CheckItem[]): string[] {
  const live = items.filter(({ needsRestart }) => !needsRestart);
  return [...new Set(live.flatMap(({ statements }) => statements))];
}

/** What was run of the confirmed statements, and what it changed; nothing where none was asked for. */
export function describeFixes(applied: readonly AppliedStatement[], mended: readonly CheckItem[]): string[] {
  return [
    ...applied.map(({ statement, problem }) => (problem ? `! refused: ${statement} ${problem}` : `ran: ${statement}`)),
    ...mended.map(({ name, message }) => `mended: ${name}, it was: ${message}`),
  ];
}
