import { fail } from "@coppice/proto/kit/failure";

/** The message field's value; fails with INVALID_FIELD when the command came without it. */
export function required<T>(value: T | undefined, field: string): T {
  return value ?? fail("INVALID_FIELD", `the command has no ${field}`, { fields: [{ field, expected: "a value" }] });
}
