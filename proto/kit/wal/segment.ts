/** What the name of a file in a WAL archive says. LSNs are bytes; `endLsn` and sizes need the cluster's segment size. */
export type WalFile =
  | { readonly kind: "segment"; readonly timeline: number; readonly startLsn: bigint }
  /** A segment that is not full: PostgreSQL's own `.partial`, or one of ours that tells where it ends. */
  | {
      readonly kind: "partial";
      readonly timeline: number;
      readonly startLsn: bigint;
      readonly endLsn: bigint | undefined;
    }
  | { readonly kind: "history"; readonly timeline: number }
  /** A backup's history file; `lsn` is where the backup began. */
  | { readonly kind: "backup"; readonly timeline: number; readonly startLsn: bigint; readonly lsn: bigint };

const form =
  /^([0-9A-F]{8})(?:\.history|([0-9A-F]{8})([0-9A-F]{8})(?:\.(partial)(?:\.([0-9A-F]{16}))?|\.([0-9A-F]{8})\.backup)?)$/;

/** Whether a file is called as whole segments are, of whatever size. */
export function isSegmentName(name: string): boolean {
  return /^[0-9A-F]{24}$/.test(name);
}

/** Whether PostgreSQL can have such segments: a power of two from 1 MiB to 1 GiB. */
export function isSegmentSize(bytes: bigint): boolean {
  return bytes >= 1n << 20n && bytes <= 1n << 30n && (bytes & (bytes - 1n)) === 0n;
}

/**
 * What a file's name says, by the cluster's segment size in bytes; undefined when no archive of such a cluster has it:
 * lower case, timeline 0, a number that segments of this size never have, an end or a start outside the segment.
 */
export function parseWalFile(name: string, segmentBytes: bigint): WalFile | undefined {
  const [, timelineText = "", high, low, partial, end, offset] = form.exec(name) ?? [];
  const timeline = Number.parseInt(timelineText, 16);
  if (!(timeline > 0) || !isSegmentSize(segmentBytes)) return undefined;
  if (high === undefined || low === undefined) return { kind: "history", timeline };
  const within = BigInt(`0x${low}`);
  if (within >= (1n << 32n) / segmentBytes) return undefined;
  const startLsn = (BigInt(`0x${high}`) << 32n) + within * segmentBytes;
  if (offset !== undefined) {
    const bytes = BigInt(`0x${offset}`);
    return bytes < segmentBytes ? { kind: "backup", timeline, startLsn, lsn: startLsn + bytes } : undefined;
  }
  if (partial === undefined) return { kind: "segment", timeline, startLsn };
  const endLsn = end === undefined ? undefined : BigInt(`0x${end}`);
  if (endLsn !== undefined && (endLsn <= startLsn || endLsn > startLsn + segmentBytes)) return undefined;
  return { kind: "partial", timeline, startLsn, endLsn };
}

/** Name of the segment that holds the byte at `lsn`. */
export function segmentName(timeline: number, lsn: bigint, segmentBytes: bigint): string {
  const within = (lsn & 0xffff_ffffn) / segmentBytes;
  return `${hexadecimal(BigInt(timeline))}${hexadecimal(lsn >> 32n)}${hexadecimal(within)}`;
}

/** Name of what is stored of the segment that is not full yet: everything before `endLsn`, which lies in it or ends it. */
export function partialName(timeline: number, endLsn: bigint, segmentBytes: bigint): string {
  return `${segmentName(timeline, endLsn - 1n, segmentBytes)}.partial.${hexadecimal(endLsn, 16)}`;
}

/** Name of a timeline's history file. */
export function historyName(timeline: number): string {
  return `${hexadecimal(BigInt(timeline))}.history`;
}

/** Name of the history file of a backup that began at `lsn`. */
export function backupHistoryName(timeline: number, lsn: bigint, segmentBytes: bigint): string {
  return `${segmentName(timeline, lsn, segmentBytes)}.${hexadecimal(lsn % segmentBytes)}.backup`;
}

/** Number of the segment that holds the byte at `lsn`, counted from the beginning of WAL. */
export function segmentNumber(lsn: bigint, segmentBytes: bigint): bigint {
  return lsn / segmentBytes;
}

/** First position of the segment that holds the byte at `lsn`. */
export function segmentStart(lsn: bigint, segmentBytes: bigint): bigint {
  return lsn - (lsn % segmentBytes);
}

function hexadecimal(value: bigint, digits = 8): string {
  return value.toString(16).toUpperCase().padStart(digits, "0");
}
