import { fail } from "../failure.ts";

/** A WAL position as PostgreSQL writes it, 16/B374D848, as a number of bytes. Fails with INVALID_FIELD. */
export function parseLsn(text: string): bigint {
  const parts = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i.exec(text);
  if (!parts)
    return fail("INVALID_FIELD", `${JSON.stringify(text)} is no WAL position`, { hint: "it looks like 16/B374D848" });
  return (BigInt(`0x${parts[1]}`) << 32n) | BigInt(`0x${parts[2]}`);
}

/** A WAL position as PostgreSQL writes it. */
export function formatLsn(lsn: bigint): string {
  const half = (bits: bigint) => bits.toString(16).toUpperCase();
  return `${half(lsn >> 32n)}/${half(lsn & 0xffffffffn)}`;
}
