import type { Failure } from "@coppice/proto/kit/failure";
import { printable } from "./printable.ts";
import type { Terminal } from "./terminal.ts";

/**
 * What a person gets to see of a failure: `✗ message`, the refused fields, `next: hint`, and, where known, what was
 * `left` behind and what is still `safe`. Neither its cause nor a trace.
 */
export function formatFailure(
  failure: Pick<Failure, "message" | "hint" | "fields">,
  paint: Terminal["paint"],
  { left, safe }: { readonly left?: string; readonly safe?: string } = {},
): string {
  const lines = [`${paint("red", "✗")} ${printable(failure.message)}`];
  for (const { field, description, expected, value } of failure.fields) {
    const facts = [
      description && !failure.message.includes(description) && printable(description),
      expected && !description?.includes(expected) && `expected ${printable(expected)}`,
      value !== undefined && `got ${printable(JSON.stringify(value))}`,
    ];
    lines.push(`  ${printable(field)}: ${facts.filter(Boolean).join("; ")}`);
  }
  if (failure.hint) lines.push(`  next: ${printable(failure.hint)}`);
  if (left) lines.push(`  left: ${printable(left)}`);
  if (safe) lines.push(`  safe: ${printable(safe)}`);
  return `${lines.join("\n")}\n`;
}
