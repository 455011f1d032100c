import { create } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

/** Microseconds since 1970, as PostgreSQL counts; what is finer is cut off. */
export function microsecondsOf({ seconds, nanos }: Timestamp): bigint {
  return seconds * 1_000_000n + BigInt(Math.floor(nanos / 1000));
}

/** The same as a message. */
export function timestampOf(timeUs: bigint): Timestamp {
  const within = ((timeUs % 1_000_000n) + 1_000_000n) % 1_000_000n;
  return create(TimestampSchema, { seconds: (timeUs - within) / 1_000_000n, nanos: Number(within) * 1000 });
}
