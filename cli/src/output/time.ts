import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { formatInstant } from "@coppice/proto/kit/recovery-point/instant";

/** The time of a message's field; undefined where it is not set. */
export function timeOf(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && new Date(Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1_000_000));
}

/** That time to the microsecond, in UTC, as `--at` takes it; undefined where it is not set. */
export function instantOf(timestamp: Timestamp | undefined): string | undefined {
  return timestamp && formatInstant(timestamp.seconds * 1_000_000n + BigInt(Math.floor(timestamp.nanos / 1000)));
}
