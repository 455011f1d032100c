import type { Timestamp } from "@bufbuild/protobuf/wkt";

/** The time of a message's field; undefined where it is not set. */
export function timeOf(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && new Date(Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1_000_000));
}

/** That time to the microsecond, in UTC, as `--at` takes it; undefined where it is not set. */
export function instantOf(timestamp: Timestamp | undefined): string | undefined {
  return timestamp && formatInstant(timestamp.seconds * 1_000_000n + BigInt(Math.floor(timestamp.nanos / 1000)));
}

/** That point in time in UTC, as parseInstant reads it again: 2026-11-21T13:03:07.25Z. */
export function formatInstant(micros: bigint): string {
  const fraction = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = new Date(Number((micros - fraction) / 1000n)).toISOString().slice(0, 19);
  const shown = fraction === 0n ? "" : `.${fraction.toString().padStart(6, "0").replace(/0+$/, "")}`;
  return `${seconds}${shown}Z`;
}
