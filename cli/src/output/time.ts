import type { Timestamp } from "@bufbuild/protobuf/wkt";

/** The time of a message's field; undefined where it is not set. */
export function timeOf(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && new Date(Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1_000_000));
}
