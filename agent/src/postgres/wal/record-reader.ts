/** The end of a transaction, as recovery to a time compares it: a commit or an abort. */
export interface TransactionEnd {
  /** Where its record begins, and the first position after it. */
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  /** Microseconds since 1970, by the server's clock. */
  readonly timeUs: bigint;
}

/** A tablespace that is made, at a path of the host. */
export interface MadeTablespace {
  /** Where its record begins, and the one before it. */
  readonly startLsn: bigint;
  readonly prevLsn: bigint;
  readonly oid: number;
  /** Empty of one that lies in the data directory. */
  readonly location: string;
}

/** What is told of. */
export interface RecordListener {
  readonly onEnd?: (end: TransactionEnd) => void;
  readonly onTablespace?: (made: MadeTablespace) => void;
}

/** Takes WAL in order, segment after segment, and tells of what it is asked for in it. */
export interface RecordReader {
  /** Takes the next bytes of a segment; `lsn` is the position of the first one. */
  take(bytes: Buffer, lsn: bigint): void;
  /** No end behind this position was passed over; undefined until a record's beginning was come by. */
  readonly fromLsn: bigint | undefined;
}

const pageBytes = 8192;
/** xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len; a segment's first page has more. */
const shortHeaderBytes = 24;
const longHeaderBytes = 40;
const isContinuation = 1;
const isLongHeader = 2;
/** xl_tot_len, xl_xid, xl_prev, xl_info, xl_rmid, two of nothing, xl_crc. */
const recordHeaderBytes = 24;
/** A record's header, those of origin and outer transaction, the one of its data, and the time that it begins with. */
const endBytes = 48;
/** The same, and a path of the longest. */
const tablespaceBytes = endBytes + 1024;
const xlog = { rmid: 0, switch: 0x40 };
const transaction = { rmid: 1, mask: 0x70, ends: [0x00, 0x20, 0x30, 0x40] };
const tablespace = { rmid: 5, create: 0x00 };
const blockIds = { data: 255, longData: 254, origin: 253, outerTransaction: 252 };
/** PostgreSQL counts from 2000 on. */
const epochUs = 946_684_800_000_000n;

interface OpenRecord {
  readonly startLsn: bigint;
  readonly totalBytes: number;
  readonly head: Buffer;
  doneBytes: number;
}

const align = (bytes: number) => Math.ceil(bytes / 8) * 8;

/** The data of a record without blocks, as far as it is there. */
function dataOf(head: Buffer): Buffer {
  let at = recordHeaderBytes;
  for (;;) {
    const id = head[at];
    if (id === blockIds.origin) at += 3;
    else if (id === blockIds.outerTransaction) at += 5;
    else if (id === blockIds.data) return head.subarray(at + 2);
    else if (id === blockIds.longData) return head.subarray(at + 5);
    else return head.subarray(head.length);
  }
}

/** The time of a record that ends a transaction; undefined of any other. */
function timeOf(head: Buffer): bigint | undefined {
  const [info, rmid] = [head.readUInt8(16), head.readUInt8(17)];
  if (rmid !== transaction.rmid || !transaction.ends.includes(info & transaction.mask)) return undefined;
  const data = dataOf(head);
  return data.length < 8 ? undefined : data.readBigInt64LE(0) + epochUs;
}

/** What a record makes that makes a tablespace; undefined of any other. */
function tablespaceOf(head: Buffer): Omit<MadeTablespace, "startLsn"> | undefined {
  if (head[17] !== tablespace.rmid || ((head[16] ?? 0) & 0xf0) !== tablespace.create) return undefined;
  const data = dataOf(head);
  if (data.length < 5) return undefined;
  const path = data.subarray(4);
  const end = path.indexOf(0);
  const location = path.toString("utf8", 0, end < 0 ? path.length : end);
  return { prevLsn: head.readBigUInt64LE(8), oid: data.readUInt32LE(0), location };
}

/**
 * Opens a reader of WAL of PostgreSQL 15 to 18. What it begins with in the middle of a record is passed over, and so is
 * everything behind a switch or the end of what was written, up to the next segment.
 */
export function openRecordReader(segmentBytes: bigint, { onEnd, onTablespace }: RecordListener): RecordReader {
  // Of the one record that is open; it is filled before it is looked at.
  const opened = Buffer.allocUnsafeSlow(onTablespace ? tablespaceBytes : endBytes);
  let held = Buffer.alloc(0);
  let record: OpenRecord | undefined;
  let isOver = false;
  let fromLsn: bigint | undefined;

  function readPage(page: Buffer, pageLsn: bigint): void {
    if (pageLsn % segmentBytes === 0n) isOver = false;
    if (isOver) return;
    const info = page.readUInt16LE(2);
    if (page.readUInt16LE(0) === 0 || page.readBigUInt64LE(8) !== pageLsn) return finish();
    let at = info & isLongHeader ? longHeaderBytes : shortHeaderBytes;
    const restBytes = page.readUInt32LE(16);
    if (!(info & isContinuation)) record = undefined;
    else if (!record || record.totalBytes - record.doneBytes !== restBytes) {
      record = undefined;
      fromLsn = undefined;
      if (restBytes > pageBytes - at) return;
      at = align(at + restBytes);
      fromLsn = pageLsn + BigInt(at);
    }
    fromLsn ??= pageLsn;
    while (at < pageBytes) at = readRecord(page, at, pageLsn);
  }

  /** Reads of a record what the page holds; gives where the next one begins, the page's end where none does. */
  function readRecord(page: Buffer, at: number, pageLsn: bigint): number {
    if (!record) {
      const totalBytes = page.readUInt32LE(at);
      if (totalBytes < recordHeaderBytes) {
        finish();
        return pageBytes;
      }
      // Nearly all records lie within their page: nothing is kept of those.
      if (totalBytes <= pageBytes - at) {
        const next = align(at + totalBytes);
        const rmid = page[at + 17] ?? 0;
        return rmid > transaction.rmid && rmid !== tablespace.rmid
          ? next
          : endRecord(page.subarray(at, at + Math.min(opened.length, totalBytes)), pageLsn + BigInt(at), pageLsn, next);
      }
      const head = opened.subarray(0, totalBytes);
      record = { startLsn: pageLsn + BigInt(at), totalBytes, head, doneBytes: 0 };
    }
    const { startLsn, totalBytes, head, doneBytes } = record;
    const bytes = Math.min(totalBytes - doneBytes, pageBytes - at);
    if (doneBytes < head.length) page.copy(head, doneBytes, at, at + bytes);
    record.doneBytes += bytes;
    if (record.doneBytes < totalBytes) return pageBytes;
    record = undefined;
    return endRecord(head, startLsn, pageLsn, align(at + bytes));
  }

  /** Looks at a record that is whole; gives where the next one begins. */
  function endRecord(head: Buffer, startLsn: bigint, pageLsn: bigint, next: number): number {
    const made = onTablespace && tablespaceOf(head);
    if (made) onTablespace?.({ startLsn, ...made });
    const timeUs = onEnd && timeOf(head);
    if (timeUs !== undefined) onEnd?.({ startLsn, endLsn: pageLsn + BigInt(next), timeUs });
    if (head[17] !== xlog.rmid || ((head[16] ?? 0) & 0xf0) !== xlog.switch) return next;
    finish();
    return pageBytes;
  }

  function finish(): void {
    isOver = true;
    record = undefined;
  }

  return {
    get fromLsn() {
      return fromLsn;
    },
    take(bytes, lsn) {
      const before = held.length;
      const whole = before === 0 ? bytes : Buffer.concat([held, bytes]);
      const firstLsn = lsn - BigInt(before);
      const pages = Math.floor(whole.length / pageBytes);
      for (let index = 0; index < pages; index++) {
        const at = index * pageBytes;
        readPage(whole.subarray(at, at + pageBytes), firstLsn + BigInt(at));
      }
      held = Buffer.from(whole.subarray(pages * pageBytes));
    },
  };
}
