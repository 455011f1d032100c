import { printable } from "./printable.ts";
import type { Terminal } from "./terminal.ts";

/** What a person gets to see of a success: `✓ message`, further facts a line each, and `next: command`. */
export function formatSuccess(
  paint: Terminal["paint"],
  message: string,
  { facts = [], next }: { readonly facts?: readonly string[]; readonly next?: string | undefined } = {},
): string {
  const lines = [`${paint("green", "✓")} ${printable(message)}`, ...facts.map((fact) => `  ${printable(fact)}`)];
  if (next) lines.push(`  ${paint("dim", "next:")} ${printable(next)}`);
  return `${lines.join("\n")}\n`;
}
