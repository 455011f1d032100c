import type { DescEnum } from "@bufbuild/protobuf";

/** The word for an enum's value: HOST_STATE_CONNECTED is `connected`. A value that only newer servers know is its number. */
export function enumLabel(schema: DescEnum, value: number): string {
  const known = schema.value[value] ?? schema.values.find(({ number }) => number === value);
  if (!known) return String(value);
  const prefix = schema.sharedPrefix ?? "";
  const name = known.name.toLowerCase();
  return (name.startsWith(prefix) ? name.slice(prefix.length) : name).replaceAll("_", " ");
}
