import type { SpecCase } from "./kind.ts";
import { kinds } from "./registry.ts";

/**
 * How many operations of one heavy kind a host works on at once; the others wait. Each kind counts by itself, so that a
 * restore does not stand in line behind fifty backups. Cancels, checks, plans and deletions never wait.
 */
export const hostLimit: { readonly atOnce: number; readonly heavy: readonly SpecCase[] } = {
  atOnce: 2,
  heavy: Object.values(kinds).flatMap((kind) => (kind.does === "command" && kind.isHeavy ? [kind.spec] : [])),
};
