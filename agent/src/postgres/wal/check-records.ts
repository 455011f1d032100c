// One thing: WAL read as recovery reads it, page by page and record by record, where every byte that it would act by has
// to be what the server wrote.
import { fail } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { crc32c } from "./crc32c.ts";

/** WAL that is to be checked. */
export interface WalToCheck {
  readonly systemIdentifier: string;
  /** Timeline of the segments; pages may be of an earlier one, never of a later. */
  readonly timeline: number;
  readonly segmentBytes: bigint;
}

/** A record that was found to be whole. */
export interface FoundRecord {
  /** First position after it and what aligns the next one. */
  readonly endLsn: bigint;
  /** Its beginning: header and, as far as `headBytes` goes, content. */
  readonly head: Buffer;
}

/** A check of WAL that is given in order. */
export interface RecordCheck {
  /** How many records were found to be whole. */
  readonly records: bigint;
  /** The last one of them. */
  readonly last: FoundRecord | undefined;
  /** Where the last whole record ends, as a server says that it has replayed it; undefined before the first. */
  readonly lastEndLsn: bigint | undefined;
  /**
   * Takes the next bytes; the first ones begin a segment. What lies at or behind `endLsn` is not looked at. Fails with
   * CONTENT_UNREADABLE at the first thing that is wrong, and is of no use then.
   */
  take(bytes: Buffer, position: { readonly lsn: bigint; readonly endLsn: bigint }): void;
  /** Fails with CONTENT_UNREADABLE unless the WAL goes up to that position, where `atRecord` has a record end there. */
  finish(endLsn: bigint, end: { readonly atRecord: boolean }): void;
}

const pageBytes = 8192;
/** xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len, four of nothing; a segment's first page says more. */
const shortHeaderBytes = 24;
const longHeaderBytes = 40;
const pageFlags = { isContinuation: 1, isLongHeader: 2, isRemovable: 4, isOverwritten: 8 };
const knownFlags = Object.values(pageFlags).reduce((all, flag) => all | flag, 0);
/** Of PostgreSQL 15 to 18. */
const pageMagics: readonly number[] = [0xd110, 0xd113, 0xd116, 0xd118];
/** xl_tot_len, xl_xid, xl_prev, xl_info, xl_rmid, two of nothing, xl_crc. */
const recordHeaderBytes = 24;
const checksumAt = 20;
/** What is kept of a record: as much as a restore point's name takes. */
const headBytes = 98;
/** XLogRecordMaxSize is less. */
const mostRecordBytes = 1 << 30;
const switchRecord = { rmid: 0, info: 0x40 };

interface OpenRecord {
  /** Undefined of one whose beginning was not given. */
  readonly startLsn: bigint | undefined;
  readonly totalBytes: number;
  doneBytes: number;
  readonly head: Buffer;
  /** Of what follows the header. */
  checksum: number;
}

const align = (bytes: number) => Math.ceil(bytes / 8) * 8;

function wrong(lsn: bigint, what: string): never {
  return fail("CONTENT_UNREADABLE", `the WAL at ${formatLsn(lsn)} ${what}`);
}

/**
 * Checks WAL of PostgreSQL 15 to 18: the header of every page, and of every record its length, its checksum and that it
 * follows the one before it. A record whose beginning was not given is passed over, and so is what a switch leaves unused
 * of its segment.
 */
export function openRecordCheck({ systemIdentifier, timeline, segmentBytes }: WalToCheck): RecordCheck {
  let held = Buffer.alloc(0);
  let reached: bigint | undefined;
  let magic: number | undefined;
  let pageTimeline = 0;
  let record: OpenRecord | undefined;
  /** Where the record before began; undefined where that is not known. */
  let previous: bigint | undefined;
  let isUnused = false;
  let records = 0n;
  let last: FoundRecord | undefined;
  let lastEndLsn: bigint | undefined;

  /** Checks a page's header, and gives where its content begins. */
  function readHeader(page: Buffer, lsn: bigint): number {
    const [found, flags, ownTimeline] = [page.readUInt16LE(0), page.readUInt16LE(2), page.readUInt32LE(4)];
    if (!pageMagics.includes(found)) wrong(lsn, "begins with no page of PostgreSQL 15 to 18");
    if (magic !== undefined && found !== magic)
      wrong(lsn, "is of another version of PostgreSQL than what is before it");
    magic = found;
    const address = page.readBigUInt64LE(8);
    if (address !== lsn) wrong(lsn, `says that it is that of ${formatLsn(address)}`);
    if (ownTimeline < Math.max(1, pageTimeline) || ownTimeline > timeline) wrong(lsn, `is of timeline ${ownTimeline}`);
    pageTimeline = ownTimeline;
    const isFirst = lsn % segmentBytes === 0n;
    if ((flags & ~knownFlags) !== 0 || isFirst !== ((flags & pageFlags.isLongHeader) !== 0))
      wrong(lsn, `has a page with the flags ${flags}`);
    if (!isFirst) return shortHeaderBytes;
    const cluster = page.readBigUInt64LE(24).toString();
    if (cluster !== systemIdentifier) wrong(lsn, `is of the server with system identifier ${cluster}`);
    if (BigInt(page.readUInt32LE(32)) !== segmentBytes) wrong(lsn, `is of segments of ${page.readUInt32LE(32)} bytes`);
    if (page.readUInt32LE(36) !== pageBytes) wrong(lsn, `is of pages of ${page.readUInt32LE(36)} bytes`);
    return longHeaderBytes;
  }

  function readPage(page: Buffer, lsn: bigint, endLsn: bigint): void {
    if (lsn % segmentBytes === 0n) isUnused = false;
    if (isUnused) return;
    const isBeginning = reached === undefined;
    let at = readHeader(page, lsn);
    const flags = page.readUInt16LE(2);
    const restBytes = page.readUInt32LE(16);
    if (flags & pageFlags.isContinuation) {
      if (isBeginning)
        record = { startLsn: undefined, totalBytes: restBytes, doneBytes: 0, head: Buffer.alloc(0), checksum: 0 };
      if (!record) wrong(lsn, "goes on with a record that has not begun");
      if (record.totalBytes - record.doneBytes !== restBytes)
        wrong(lsn, `goes on with ${restBytes} bytes of a record that lacks ${record.totalBytes - record.doneBytes}`);
    } else if (record) {
      // A server that died while it wrote a record goes on behind it as if it had never begun.
      if (!(flags & pageFlags.isOverwritten)) wrong(lsn, "does not go on with the record before it");
      record = undefined;
      previous = undefined;
    }
    const end = endLsn - lsn < BigInt(pageBytes) ? Number(endLsn - lsn) : pageBytes;
    while (at < end) at = readRecord(page.subarray(0, end), at, lsn);
  }

  /** Reads of a record what the page holds; gives where the next one begins, the page's end where none does. */
  function readRecord(page: Buffer, at: number, lsn: bigint): number {
    record ??= beginRecord(page, at, lsn);
    if (!record) return pageBytes;
    const { totalBytes, head, startLsn, doneBytes } = record;
    const piece = page.subarray(at, at + totalBytes - doneBytes);
    const ofHeader = startLsn === undefined ? 0 : Math.min(piece.length, Math.max(0, recordHeaderBytes - doneBytes));
    if (doneBytes < head.length) piece.copy(head, doneBytes);
    if (startLsn !== undefined) record.checksum = crc32c(piece.subarray(ofHeader), record.checksum);
    record.doneBytes += piece.length;
    if (record.doneBytes < totalBytes) return pageBytes;
    const ended = record;
    record = undefined;
    const next = align(at + piece.length);
    const isSwitch = endRecord(ended, lsn + BigInt(next));
    lastEndLsn = isSwitch ? lsn - (lsn % segmentBytes) + segmentBytes : lsn + BigInt(next);
    return isSwitch ? pageBytes : next;
  }

  function beginRecord(page: Buffer, at: number, lsn: bigint): OpenRecord | undefined {
    const startLsn = lsn + BigInt(at);
    if (at + 4 > page.length) return undefined;
    const totalBytes = page.readUInt32LE(at);
    if (totalBytes < recordHeaderBytes || totalBytes > mostRecordBytes) {
      // What was passed over may have been a switch.
      if (
        totalBytes === 0 &&
        records === 0n &&
        previous === undefined &&
        startLsn % segmentBytes !== BigInt(longHeaderBytes)
      ) {
        isUnused = true;
        return undefined;
      }
      wrong(startLsn, totalBytes === 0 ? "holds no record" : `begins a record of ${totalBytes} bytes`);
    }
    return {
      startLsn,
      totalBytes,
      doneBytes: 0,
      head: Buffer.allocUnsafe(Math.min(totalBytes, headBytes)),
      checksum: 0,
    };
  }

  /** Checks a record that is there whole; gives whether it leaves the rest of its segment unused. */
  function endRecord({ startLsn, head, checksum, totalBytes }: OpenRecord, endLsn: bigint): boolean {
    if (startLsn === undefined) return false;
    // The header's own part comes last, and its checksum is not in it.
    if (crc32c(head.subarray(0, checksumAt), checksum) !== head.readUInt32LE(checksumAt))
      wrong(startLsn, `begins a record of ${totalBytes} bytes that has another checksum than it says`);
    const before = head.readBigUInt64LE(8);
    if (previous !== undefined && before !== previous)
      wrong(startLsn, `follows a record at ${formatLsn(before)}, and the one before it is at ${formatLsn(previous)}`);
    previous = startLsn;
    records += 1n;
    last = { endLsn, head };
    const isSwitch = head.readUInt8(17) === switchRecord.rmid && (head.readUInt8(16) & 0xf0) === switchRecord.info;
    if (isSwitch) isUnused = true;
    return isSwitch;
  }

  return {
    get records() {
      return records;
    },
    get last() {
      return last;
    },
    get lastEndLsn() {
      return lastEndLsn;
    },
    take(bytes, { lsn, endLsn }) {
      const whole = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
      const firstLsn = lsn - BigInt(held.length);
      if (reached === undefined ? firstLsn % segmentBytes !== 0n : firstLsn !== reached)
        wrong(firstLsn, "was given where something else was due");
      let at = 0;
      for (; at + pageBytes <= whole.length; at += pageBytes) {
        const pageLsn = firstLsn + BigInt(at);
        if (pageLsn < endLsn) readPage(whole.subarray(at, at + pageBytes), pageLsn, endLsn);
        reached = pageLsn + BigInt(pageBytes);
      }
      held = Buffer.from(whole.subarray(at));
    },
    finish(endLsn, { atRecord }) {
      if (reached === undefined || reached < endLsn) wrong(reached ?? 0n, `is missing up to ${formatLsn(endLsn)}`);
      if (!atRecord || !record) return;
      wrong(record.startLsn ?? endLsn, `begins a record that is not over at ${formatLsn(endLsn)}`);
    },
  };
}
