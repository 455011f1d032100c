import { crc32c } from "../../../agent/src/postgres/wal/crc32c.ts";

/** What WAL is written as. */
export interface WrittenWal {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly segmentBytes: bigint;
  /** Beginning of its first segment. */
  readonly baseLsn: bigint;
  /** Of its pages; PostgreSQL 18's when left out. */
  readonly magic?: number;
}

const page = 8192;

/** WAL as a server writes it, four segments of it at most, from the beginning of one on. */
export function openWalWriter({ systemIdentifier, timeline, segmentBytes, baseLsn, magic = 0xd118 }: WrittenWal) {
  const bytes = Buffer.alloc(4 * Number(segmentBytes));
  let at = 0;
  let previous = 0n;
  let records = 0n;
  let flags = 0;

  function header(restBytes: number): void {
    const isFirst = at % Number(segmentBytes) === 0;
    bytes.writeUInt16LE(magic, at);
    bytes.writeUInt16LE((restBytes > 0 ? 1 : 0) | (isFirst ? 2 : 0) | flags, at + 2);
    flags = 0;
    bytes.writeUInt32LE(timeline, at + 4);
    bytes.writeBigUInt64LE(baseLsn + BigInt(at), at + 8);
    bytes.writeUInt32LE(restBytes, at + 16);
    if (isFirst) {
      bytes.writeBigUInt64LE(BigInt(systemIdentifier), at + 24);
      bytes.writeUInt32LE(Number(segmentBytes), at + 32);
      bytes.writeUInt32LE(page, at + 36);
    }
    at += isFirst ? 40 : 24;
  }

  function write(data: Buffer, { info = 0, rmid = 10, written = Infinity } = {}): number {
    const record = Buffer.concat([Buffer.alloc(24), data]);
    record.writeUInt32LE(record.length, 0);
    record.writeBigUInt64LE(previous, 8);
    record.writeUInt8(info, 16);
    record.writeUInt8(rmid, 17);
    record.writeUInt32LE(crc32c(record.subarray(0, 20), crc32c(record.subarray(24))), 20);
    if (at % page === 0) header(0);
    const start = at;
    for (let done = 0; done < record.length && at - start < written;) {
      if (at % page === 0) header(record.length - done);
      const piece = record.subarray(done, done + page - (at % page));
      piece.copy(bytes, at);
      at += piece.length;
      done += piece.length;
    }
    at = Math.ceil(at / 8) * 8;
    if (written !== Infinity) return start;
    previous = baseLsn + BigInt(start);
    records += 1n;
    return start;
  }

  /** A record with so many bytes of anything; gives where it begins, in bytes from the first. */
  function add(dataBytes: number, form: { info?: number; rmid?: number; written?: number } = {}): number {
    const data = Buffer.alloc(dataBytes);
    for (let index = 0; index < dataBytes; index++) data[index] = ((index + 24) * 7 + at) & 0xff;
    return write(data, form);
  }

  return {
    bytes,
    add,
    /** What a server ends a backup by that began there. */
    endBackup(startLsn: bigint) {
      const data = Buffer.from([0xff, 8, ...Buffer.alloc(8)]);
      data.writeBigUInt64LE(startLsn, 2);
      write(data, { rmid: 0, info: 0x50 });
    },
    /** A restore point of that name. */
    markPoint(name: string) {
      const data = Buffer.alloc(74);
      data.writeUInt16LE(0x48ff, 0);
      data.write(name, 10);
      write(data, { rmid: 0, info: 0x70 });
    },
    get at() {
      return at;
    },
    get records() {
      return records;
    },
    /** Ends the segment; what is behind it is whatever was there. */
    switchSegment() {
      write(Buffer.alloc(0), { rmid: 0, info: 0x40 });
      const end = Math.ceil(at / Number(segmentBytes)) * Number(segmentBytes);
      const rest = Math.ceil(at / page) * page;
      bytes.fill(0xee, at, Math.min(rest, end));
      at = end;
    },
    /** A record that the server died in. */
    abandon() {
      add(3 * page, { written: 1 });
      flags = 8;
    },
  };
}
