import { fail } from "./failure.ts";

const units: Readonly<Record<string, bigint>> = {
  B: 1n,
  kB: 1000n,
  KB: 1000n,
  MB: 1000n ** 2n,
  GB: 1000n ** 3n,
  TB: 1000n ** 4n,
  PB: 1000n ** 5n,
  KiB: 1n << 10n,
  MiB: 1n << 20n,
  GiB: 1n << 30n,
  TiB: 1n << 40n,
  PiB: 1n << 50n,
};

/** Bytes of a size like `1.5GB`, `64 MiB` or `4096`; a fraction of a byte is cut off. Fails with INVALID_FIELD. */
export function parseSize(text: string): bigint {
  const [, whole, fraction = "", unit = "B"] = /^(\d{1,15})(?:\.(\d{1,9}))? ?([kKMGTP]i?B|B)?$/.exec(text) ?? [];
  const factor = units[unit];
  if (whole === undefined || factor === undefined) {
    fail("INVALID_FIELD", `${JSON.stringify(text)} is not a size like 1.5GB or 64MiB`);
  }
  return (BigInt(whole + fraction) * factor) / 10n ** BigInt(fraction.length);
}

/** A size for people: `1.2 GB`, decimal units, at most one digit after the point, which is dropped from 10 on. */
export function formatSize(bytes: bigint | number): string {
  let value = Number(bytes);
  if (value < 0) return `-${formatSize(-value)}`;
  const names = ["B", "kB", "MB", "GB", "TB", "PB"];
  const rounded = (size: number) => (size < 9.95 ? Math.round(size * 10) / 10 : Math.round(size));
  let unit = 0;
  // What rounds up to 1000 belongs to the next unit: 1 MB, not 1000 kB.
  while (rounded(value) >= 1000 && unit < names.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${rounded(value)} ${names[unit]}`;
}
