import { parseLsn } from "@coppice/proto/kit/wal/lsn";
import type { WalRun } from "./catalog-change.ts";

/** A stretch of WAL as messages have it. Fails with INVALID_FIELD. */
export function parseRun({
  timeline,
  startLsn,
  endLsn,
}: {
  readonly timeline: number;
  readonly startLsn: string;
  readonly endLsn: string;
}): WalRun {
  return { timeline, startLsn: parseLsn(startLsn), endLsn: parseLsn(endLsn) };
}
