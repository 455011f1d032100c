import { printable } from "./printable.ts";
import { textWidth } from "./text-width.ts";

/** Lines `name: value`, the values below each other; pairs without a value are left out. */
export function formatDetails(pairs: readonly (readonly [name: string, value: string | undefined])[]): string {
  const shown = pairs.flatMap(([name, value]) => (value ? [[name, value] as const] : []));
  const width = Math.max(0, ...shown.map(([name]) => textWidth(name)));
  return shown.map(([name, value]) => `${`${name}:`.padEnd(width + 2)}${printable(value)}\n`).join("");
}
