import { fail } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { parseWalFile, segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { openRecordCheck } from "../../postgres/wal/check-records.ts";
import { type EndRecord, isEndRecord } from "../../postgres/wal/end-record.ts";
import type { TarEntry, TarSink } from "../tar/read.ts";

/** The WAL that has to be there. */
export interface ExpectedWal {
  readonly systemIdentifier: string;
  readonly startLsn: string;
  readonly stopLsn: string;
  readonly timeline: number;
  readonly walSegmentBytes: bigint;
  /** Whether a record is known to end at stop. */
  readonly endsRecord: boolean;
  /** That record, where it is known which. */
  readonly endRecord?: EndRecord | undefined;
}

/** A check of WAL that comes file by file. */
export interface WalContentCheck {
  /** A file begins. */
  begin(name: string, sizeBytes: number): void;
  /** The next bytes of it. */
  take(bytes: Buffer): void;
  /** All files were given. */
  finish(): void;
}

function wrong(what: string): never {
  return fail("CONTENT_UNREADABLE", `the WAL of the backup is not what it needs: ${what}`);
}

/**
 * Checks a backup's WAL: every segment from start to stop in its order, and in them every page and every record. Each
 * function fails with CONTENT_UNREADABLE.
 */
export function openWalContentCheck(wal: ExpectedWal): WalContentCheck {
  const { walSegmentBytes: segmentBytes, timeline, systemIdentifier } = wal;
  const endLsn = parseLsn(wal.stopLsn);
  const records = openRecordCheck({ systemIdentifier, timeline, segmentBytes });
  let next = segmentStart(parseLsn(wal.startLsn), segmentBytes);
  let lsn: bigint | undefined;

  return {
    begin(name, sizeBytes) {
      const file = parseWalFile(name, segmentBytes);
      if (!file) wrong(`it holds ${JSON.stringify(name)}`);
      lsn = undefined;
      if (file.kind === "history") return;
      const due = segmentName(timeline, next, segmentBytes);
      if (name !== due) wrong(`${name} is there instead of ${due}`);
      if (BigInt(sizeBytes) !== segmentBytes) wrong(`${name} has ${sizeBytes} bytes`);
      lsn = next;
      next += segmentBytes;
    },
    take(bytes) {
      if (lsn === undefined) return;
      records.take(bytes, { lsn, endLsn });
      lsn += BigInt(bytes.length);
    },
    finish() {
      if (next < endLsn) wrong(`it ends at ${formatLsn(next)} instead of ${wal.stopLsn}`);
      records.finish(endLsn, { atRecord: wal.endsRecord });
      const { last } = records;
      if (wal.endRecord && !(last?.endLsn === endLsn && isEndRecord(last, wal.endRecord)))
        wrong(`it does not end with what the server has written at ${wal.stopLsn}`);
    },
  };
}

/** Takes the archive of a backup's WAL into such a check. */
export function walArchiveSink(check: WalContentCheck): TarSink {
  return {
    onEntry({ name, type, sizeBytes }: TarEntry) {
      if (type !== "file") wrong(`it holds ${JSON.stringify(name)}`);
      check.begin(name, sizeBytes);
    },
    onContent: (piece) => check.take(piece),
    onFileEnd: () => {},
  };
}
