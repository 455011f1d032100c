/**
 * What ties a segment to the ones beside it: each record of WAL says where the one before it begins. Of two histories
 * that parted before a segment, the next one of either does not go on from the other's, but for a coincidence.
 */
export interface RecordLinks {
  /** Where the record begins that its first one follows, as that one says; undefined where none begins in it. */
  readonly beforeLsn: bigint | undefined;
  /** Where the last record that begins in it begins; undefined where none does. */
  readonly lastLsn: bigint | undefined;
}

/** Reads the links of one segment from its bytes in their order, from its beginning on. */
export interface LinkReader {
  take(bytes: Buffer): void;
  /** As far as bytes were taken. */
  links(): RecordLinks;
}

const pageBytes = 8192;
/** xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len; a segment's first page has more. */
const shortHeaderBytes = 24;
const longHeaderBytes = 40;
/** Behind system identifier and segment size. */
const blockSizeAt = 36;
const pageFlags = { isContinuation: 1, isLongHeader: 2, isOverwritten: 8 };
/** xl_tot_len, xl_xid, xl_prev, xl_info, xl_rmid, two of nothing, xl_crc. */
const recordHeaderBytes = 24;
const prevAt = 8;
/** Takes the place of a record whose end was lost in a crash, and says behind two bytes where that one began. */
const overwrite = { rmid: 0, info: 0xd0, lsnAt: recordHeaderBytes + 2 };

const align = (bytes: number) => Math.ceil(bytes / 8) * 8;

/** Opens a reader of a segment of PostgreSQL 15 to 18 that begins at the position. */
export function openLinkReader(startLsn: bigint): LinkReader {
  let held = Buffer.alloc(0);
  let pageLsn = startLsn;
  let beforeLsn: bigint | undefined;
  let isFirstFound = false;
  /** A server built with pages of another size has records where nothing is looked for. */
  let isOtherSize = false;
  /** The page in which a record began last, and where the first one in it begins. */
  let last: { readonly page: Buffer; readonly lsn: bigint; readonly at: number } | undefined;

  function readPage(page: Buffer): void {
    if (page.length < longHeaderBytes || page.readBigUInt64LE(8) !== pageLsn) return;
    const flags = page.readUInt16LE(2);
    if (flags & pageFlags.isLongHeader) isOtherSize ||= page.readUInt32LE(blockSizeAt) !== pageBytes;
    let at = flags & pageFlags.isLongHeader ? longHeaderBytes : shortHeaderBytes;
    // The first record's header began on the page before, up to there.
    if (isFirstFound && beforeLsn === undefined) beforeLsn = page.readBigUInt64LE(at);
    if (flags & pageFlags.isContinuation) at += align(page.readUInt32LE(16));
    if (at + 4 > page.length || page.readUInt32LE(at) < recordHeaderBytes) return;
    last = { page, lsn: pageLsn, at };
    if (isFirstFound) return;
    if (page.length < pageBytes && at + overwrite.lsnAt + 8 > page.length) return;
    isFirstFound = true;
    if (at + prevAt + 8 <= page.length) beforeLsn = page.readBigUInt64LE(at + prevAt);
    if (flags & pageFlags.isOverwritten && isOverwrite(page, at))
      beforeLsn = page.readBigUInt64LE(at + overwrite.lsnAt);
  }

  return {
    take(bytes) {
      const whole = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
      let at = 0;
      for (; at + pageBytes <= whole.length; at += pageBytes) {
        readPage(whole.subarray(at, at + pageBytes));
        pageLsn += BigInt(pageBytes);
      }
      held = Buffer.from(whole.subarray(at));
    },
    links() {
      readPage(held);
      if (isOtherSize) return { beforeLsn: undefined, lastLsn: undefined };
      return { beforeLsn, lastLsn: last && last.lsn + BigInt(lastAt(last.page, last.at)) };
    },
  };
}

function isOverwrite(page: Buffer, at: number): boolean {
  return page.readUInt8(at + 17) === overwrite.rmid && (page.readUInt8(at + 16) & 0xf0) === overwrite.info;
}

/** Where the last record of a page begins, by where the first one does. */
function lastAt(page: Buffer, first: number): number {
  let found = first;
  for (let at = first; at + 4 <= page.length;) {
    const bytes = page.readUInt32LE(at);
    if (bytes < recordHeaderBytes) break;
    found = at;
    at = align(at + bytes);
  }
  return found;
}
