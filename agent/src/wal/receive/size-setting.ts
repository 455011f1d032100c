import { fail } from "@coppice/proto/kit/failure";

const units: Readonly<Record<string, number>> = { B: 1, kB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 };

/** Bytes of a size as SHOW prints it: 16MB. Fails with POSTGRES_REFUSED. */
export function parseSizeSetting(text: string): number {
  const [, digits, unit = ""] = /^(\d+)(B|kB|MB|GB)$/.exec(text) ?? [];
  const factor = units[unit];
  if (digits === undefined || factor === undefined)
    return fail("POSTGRES_REFUSED", `the server gave ${JSON.stringify(text)} as a size`);
  return Number(digits) * factor;
}
