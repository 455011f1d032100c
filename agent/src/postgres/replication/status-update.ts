const millenniumMs = Date.UTC(2000, 0, 1);
export const statusUpdateBytes = 34;

/** What a receiver tells of itself. */
export interface Status {
  /** Received up to here. */
  readonly writtenLsn: bigint;
  /** Durable up to here, 0 for nothing yet: a slot keeps what comes after it. */
  readonly flushedLsn: bigint;
  readonly isReplyWanted: boolean;
}

/** A standby status update. Nothing is replayed here, so its apply position is 0. */
export function formatStatusUpdate({ writtenLsn, flushedLsn, isReplyWanted }: Status, nowMs: number): Buffer {
  const body = Buffer.alloc(statusUpdateBytes);
  body.write("r", "latin1");
  body.writeBigUInt64BE(writtenLsn, 1);
  body.writeBigUInt64BE(flushedLsn, 9);
  body.writeBigInt64BE(BigInt(nowMs - millenniumMs) * 1000n, 25);
  body.writeUInt8(isReplyWanted ? 1 : 0, 33);
  return body;
}

/** A server's time, microseconds since the beginning of 2000. */
export function parseServerTime(microseconds: bigint): Date {
  return new Date(Number(microseconds / 1000n) + millenniumMs);
}

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time as SHOW prints it: 1min, 500ms, 0. */
export function parseSettingMs(text: string): number {
  const parts = /^(\d+)(ms|s|min|h|d)?$/.exec(text);
  if (!parts) throw new Error(`a setting of the server reads ${text}, which is no time`);
  return Number(parts[1]) * (unitsMs[parts[2] ?? "ms"] ?? 1);
}
