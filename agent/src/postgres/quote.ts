import { fail } from "@coppice/proto/kit/failure";

function refuseNul(text: string): void {
  if (text.includes("\0")) fail("INVALID_FIELD", "a name or value for PostgreSQL holds a NUL character");
}

/** An identifier for SQL text, always in double quotes. */
export function quoteIdentifier(name: string): string {
  refuseNul(name);
  return `"${name.replaceAll('"', '""')}"`;
}

/** A string for SQL text, right whatever standard_conforming_strings says. */
export function quoteLiteral(text: string): string {
  refuseNul(text);
  const doubled = text.replaceAll("'", "''");
  return text.includes("\\") ? `E'${doubled.replaceAll("\\", "\\\\")}'` : `'${doubled}'`;
}

/** A libpq connection string: keyword='value' pairs; undefined values are left out. */
export function formatConninfo(settings: Readonly<Record<string, string | number | undefined>>): string {
  const pairs: string[] = [];
  for (const [keyword, value] of Object.entries(settings)) {
    if (value === undefined) continue;
    refuseNul(String(value));
    pairs.push(
      `${keyword}='${String(value)
        .replaceAll("\\", "\\\\")
        .replaceAll("'", String.raw`\'`)}'`,
    );
  }
  return pairs.join(" ");
}
