import { fail } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { parseWalFile, segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { TarEntry, TarSink } from "../tar/read.ts";

/** The WAL that has to be there. */
export interface ExpectedWal {
  readonly systemIdentifier: string;
  readonly startLsn: string;
  readonly stopLsn: string;
  readonly timeline: number;
  readonly walSegmentBytes: bigint;
}

const pageBytes = 8192;
/** xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len; a segment's first page says more. */
const shortHeaderBytes = 24;
const longHeaderBytes = 40;
const longHeaderFlag = 2;

function wrong(what: string): never {
  return fail("CONTENT_UNREADABLE", `the WAL of the backup is not what it needs: ${what}`);
}

/** Checks the head of a page that has to hold WAL: that it lies where it says, and in a first page of what cluster it is. */
function checkPage(page: Buffer, lsn: bigint, wal: ExpectedWal): void {
  const [info, timeline, address] = [page.readUInt16LE(2), page.readUInt32LE(4), page.readBigUInt64LE(8)];
  const where = formatLsn(lsn);
  if (address !== lsn) wrong(`the page at ${where} says that it is that of ${formatLsn(address)}`);
  if (timeline > wal.timeline) wrong(`the page at ${where} is of timeline ${timeline}`);
  if (lsn % wal.walSegmentBytes !== 0n) return;
  if (!(info & longHeaderFlag)) wrong(`the segment at ${where} has no head`);
  const identifier = page.readBigUInt64LE(shortHeaderBytes).toString();
  if (identifier !== wal.systemIdentifier) wrong(`the segment at ${where} is of the cluster ${identifier}`);
  if (BigInt(page.readUInt32LE(shortHeaderBytes + 8)) !== wal.walSegmentBytes)
    wrong(`the segment at ${where} has another size`);
}

/**
 * Takes the archive of a backup's WAL and checks it: every segment from start to stop in its order, the head of each of
 * its pages up to there. `finish` is to be called at the archive's end. Both fail with CONTENT_UNREADABLE.
 */
export function openWalCheck(wal: ExpectedWal): TarSink & { finish(): void } {
  const stop = parseLsn(wal.stopLsn);
  let next = segmentStart(parseLsn(wal.startLsn), wal.walSegmentBytes);
  let position: bigint | undefined;
  let head = Buffer.alloc(0);
  let isBehindSwitch = false;

  /** After a switch to the next segment the server leaves zeros up to the end of the one before. */
  function checkHead(page: Buffer, lsn: bigint): void {
    const isFirst = lsn % wal.walSegmentBytes === 0n;
    const isEmpty = !isFirst && page.every((byte) => byte === 0);
    if (isFirst) isBehindSwitch = false;
    if (isBehindSwitch && !isEmpty) wrong(`the page at ${formatLsn(lsn)} follows empty ones`);
    if (isEmpty) isBehindSwitch = true;
    else checkPage(page, lsn, wal);
  }

  return {
    onEntry({ name, type, sizeBytes }: TarEntry) {
      const file = type === "file" ? parseWalFile(name, wal.walSegmentBytes) : undefined;
      if (!file) wrong(`it holds ${JSON.stringify(name)}`);
      position = undefined;
      if (file.kind === "history") return;
      if (name !== segmentName(wal.timeline, next, wal.walSegmentBytes))
        wrong(`${name} is there instead of ${segmentName(wal.timeline, next, wal.walSegmentBytes)}`);
      if (BigInt(sizeBytes) !== wal.walSegmentBytes) wrong(`${name} has ${sizeBytes} bytes`);
      position = next;
      next += wal.walSegmentBytes;
    },
    onContent(piece) {
      if (position === undefined) return;
      for (let at = 0; at < piece.length;) {
        const within = Number(position % BigInt(pageBytes));
        const headLeft = longHeaderBytes - within;
        if (headLeft > 0) {
          const part = piece.subarray(at, at + headLeft);
          head = within === 0 ? Buffer.from(part) : Buffer.concat([head, part]);
          at += part.length;
          position += BigInt(part.length);
          const page = position - BigInt(head.length);
          if (head.length === longHeaderBytes && page < stop) checkHead(head, page);
        } else {
          const skipped = Math.min(pageBytes - within, piece.length - at);
          at += skipped;
          position += BigInt(skipped);
        }
      }
    },
    onFileEnd: () => {},
    finish() {
      if (next < stop) wrong(`it ends at ${formatLsn(next)} instead of ${wal.stopLsn}`);
    },
  };
}
