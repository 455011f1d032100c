const longHeader = 40n;
const shortHeader = 24n;
const page = 8192n;

/**
 * The end of the last record before a position. Where the next record would be the first of a page, PostgreSQL gives
 * the place behind that page's header, which nothing has been written to.
 */
export function recordEnd(lsn: bigint, segmentBytes: bigint): bigint {
  const inSegment = lsn % segmentBytes;
  if (inSegment <= longHeader) return lsn - inSegment;
  const inPage = lsn % page;
  return inPage <= shortHeader ? lsn - inPage : lsn;
}

/** The last position that has nothing but the header of a page between it and the end of a record. */
export function headerEnd(end: bigint, segmentBytes: bigint): bigint {
  const behind = [longHeader, shortHeader].map((bytes) => end + bytes);
  return behind.find((lsn) => recordEnd(lsn, segmentBytes) === end) ?? end;
}
