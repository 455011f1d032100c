import { segmentStart } from "@coppice/proto/kit/wal/segment";
import { openRecordReader, type TransactionEnd } from "../../postgres/wal/record-reader.ts";

/** When the transactions that end in a run of WAL were committed or aborted, microseconds since 1970: every one counts. */
export interface CommitRun {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  /** Absent when none ends in it. */
  readonly times?: { readonly earliestUs: bigint; readonly latestUs: bigint };
}

/** Reads a timeline's WAL as it comes, in order, and says when transactions ended in each segment of it. */
export interface CommitTimes {
  /** Takes the next bytes; `lsn` is the position of the first one. */
  take(bytes: Buffer, lsn: bigint): void;
  /**
   * What is known of the segment that begins there and has come up to `endLsn`: of its whole pages, from the first record
   * on that was read. One run, and another from where times went back by more than what transactions at once differ by.
   * Of a whole segment and those before it nothing is kept then.
   */
  of(startLsn: bigint, endLsn: bigint): CommitRun[];
}

/** A segment of WAL. */
export interface SegmentPlace {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly segmentBytes: bigint;
}

/** Reads the bytes of one segment in order, `at` their distance from its beginning; of what is none there is nothing. */
export function readCommits(segment: SegmentPlace | undefined): {
  take(bytes: Buffer, at: number): void;
  commits(): CommitRun[];
} {
  if (segment === undefined) return { take() {}, commits: () => [] };
  const { timeline, startLsn, segmentBytes } = segment;
  const times = openCommitTimes(timeline, segmentBytes);
  return {
    take: (bytes, at) => times.take(bytes, startLsn + BigInt(at)),
    commits: () => times.of(startLsn, startLsn + segmentBytes),
  };
}

interface Stretch {
  readonly startLsn: bigint;
  earliestUs: bigint;
  latestUs: bigint;
}

const pageBytes = 8192n;
/** A transaction takes its time a little before it gets its place. */
const apartUs = 1_000_000n;

/** Opens a reader that begins with whatever comes first. */
export function openCommitTimes(timeline: number, segmentBytes: bigint): CommitTimes {
  const segments = new Map<bigint, Stretch[]>();
  const onEnd = ({ startLsn, endLsn, timeUs }: TransactionEnd) => {
    const start = segmentStart(endLsn - 1n, segmentBytes);
    const stretches = segments.get(start) ?? [];
    if (stretches.length === 0) segments.set(start, stretches);
    const last = stretches.at(-1);
    if (last === undefined || timeUs < last.latestUs - apartUs)
      stretches.push({ startLsn, earliestUs: timeUs, latestUs: timeUs });
    else if (timeUs < last.earliestUs) last.earliestUs = timeUs;
    else if (timeUs > last.latestUs) last.latestUs = timeUs;
  };
  const reader = openRecordReader(segmentBytes, { onEnd });
  return {
    take: (bytes, lsn) => reader.take(bytes, lsn),
    of(startLsn, endLsn) {
      const { fromLsn } = reader;
      const stretches = segments.get(startLsn) ?? [];
      if (endLsn === startLsn + segmentBytes) {
        for (const start of segments.keys()) if (start <= startLsn) segments.delete(start);
      }
      const to = endLsn - (endLsn % pageBytes);
      const from = fromLsn !== undefined && fromLsn > startLsn ? fromLsn : startLsn;
      if (fromLsn === undefined || from >= to) return [];
      if (stretches.length === 0) return [{ timeline, startLsn: from, endLsn: to }];
      return stretches.map(({ startLsn: at, earliestUs, latestUs }, index) => ({
        timeline,
        startLsn: index === 0 ? from : at,
        endLsn: stretches[index + 1]?.startLsn ?? to,
        times: { earliestUs, latestUs },
      }));
    },
  };
}
