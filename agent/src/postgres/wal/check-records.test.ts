import { isFailure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { openRandom } from "../../../../tests/support/ledger/random.ts";
import { openWalWriter } from "../../../../tests/support/wal/wal-writer.ts";
import { openRecordCheck } from "./check-records.ts";
import { isEndRecord } from "./end-record.ts";

const segmentBytes = 1n << 20n;
const page = 8192;
const systemIdentifier = "7312345678901234567";
const baseLsn = 5n * segmentBytes;
const wal = { systemIdentifier, timeline: 3, segmentBytes };

const openWriter = (magic = 0xd118) => openWalWriter({ ...wal, baseLsn, magic });

function check(
  bytes: Buffer,
  {
    from = 0,
    to,
    pieceBytes = 1 << 18,
    atRecord = true,
  }: { from?: number; to: number; pieceBytes?: number; atRecord?: boolean },
): bigint {
  const opened = openRecordCheck(wal);
  const endLsn = baseLsn + BigInt(to);
  const whole = Math.ceil(to / page) * page;
  for (let at = from; at < whole; at += pieceBytes)
    opened.take(bytes.subarray(at, Math.min(whole, at + pieceBytes)), { lsn: baseLsn + BigInt(at), endLsn });
  opened.finish(endLsn, { atRecord });
  return opened.records;
}

function wholeNumbers(seed: number): (below: number) => number {
  const { number } = openRandom(seed);
  return (below) => Math.floor(number(below));
}

/** Sizes of records, most of them small, some larger than several pages. */
function sizesOf(random: (below: number) => number): number[] {
  return Array.from({ length: 1 + random(60) }, () => random(random(4) === 0 ? 40_000 : 300));
}

test("every record is found whole, whatever its size and however the bytes come", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = wholeNumbers(seed);
    const writer = openWriter();
    for (const size of sizesOf(random)) writer.add(size);
    expect(check(writer.bytes, { to: writer.at, pieceBytes: 1 + random(20_000) }), `seed ${seed}`).toBe(writer.records);
  }
});

test("a byte that was changed is found, unless nothing reads it", () => {
  const missed: string[] = [];
  for (let seed = 1; seed <= 400; seed++) {
    const random = wholeNumbers(seed);
    const writer = openWriter();
    for (const size of sizesOf(random)) writer.add(size);
    const at = random(writer.at);
    const change = 1 + random(255);
    const good = writer.bytes[at] ?? 0;
    writer.bytes[at] = good ^ change;
    const said = whatIsWrong(writer.bytes, writer.at);
    // Fill behind records and in headers, and that the blocks of a page may be dropped, says nothing.
    const inPage = at % page;
    const isFill = good === 0 || (inPage >= 20 && inPage < 24) || (inPage === 2 && (change & ~4) === 0);
    if (said === undefined && !isFill) missed.push(`seed ${seed}: byte ${at} of ${writer.at}`);
  }
  expect(missed).toEqual([]);
});

/** What a check says of it; undefined when nothing is wrong. */
function whatIsWrong(bytes: Buffer, to: number): string | undefined {
  try {
    check(bytes, { to });
    return undefined;
  } catch (error) {
    if (isFailure(error, "CONTENT_UNREADABLE")) return error.message;
    throw error;
  }
}

test("records go on over segments, behind a switch, and behind what a server died in", () => {
  for (const magic of [0xd110, 0xd113, 0xd116, 0xd118]) {
    const writer = openWriter(magic);
    for (let index = 0; index < 30; index++) writer.add(50_000);
    expect(writer.at).toBeGreaterThan(Number(segmentBytes));
    writer.switchSegment();
    writer.add(100);
    writer.abandon();
    writer.add(9000);
    writer.add(10);
    expect(check(writer.bytes, { to: writer.at })).toBe(writer.records);
    // From a later segment on, which begins within a record.
    const later = check(writer.bytes, { from: Number(segmentBytes), to: writer.at });
    expect(later).toBeGreaterThan(0n);
    expect(later).toBeLessThan(writer.records);
  }
});

test("what is not what it has to be is said with its position", () => {
  const made = (change: (writer: ReturnType<typeof openWriter>) => void, at?: number) => {
    const writer = openWriter();
    for (let index = 0; index < 40; index++) writer.add(1000);
    const to = writer.at;
    change(writer);
    return () => check(writer.bytes, { to: at ?? to });
  };
  expect(made(({ bytes }) => bytes.writeUInt16LE(0xd10d, 0))).toThrow(
    "the WAL at 0/500000 begins with no page of PostgreSQL 15 to 18",
  );
  expect(made(({ bytes }) => bytes.writeUInt16LE(0xd116, page))).toThrow("another version");
  expect(made(({ bytes }) => bytes.writeUInt32LE(4, page + 4))).toThrow("the WAL at 0/502000 is of timeline 4");
  expect(made(({ bytes }) => bytes.writeBigUInt64LE(7n, 24))).toThrow("system identifier 7");
  expect(made(({ bytes }) => bytes.writeBigUInt64LE(0n, page + 8))).toThrow("says that it is that of 0/0");
  expect(made(({ bytes }) => bytes.fill(0, page, 3 * page))).toThrow("begins with no page");
  expect(made(({ bytes }) => bytes.writeUInt8(bytes.readUInt8(100) ^ 1, 100))).toThrow(
    "the WAL at 0/500028 begins a record of 1024 bytes that has another checksum than it says",
  );
  expect(made(({ bytes }) => bytes.fill(0, 40, 64))).toThrow("the WAL at 0/500028 holds no record");
  expect(made(({ bytes }) => bytes.writeUInt16LE(0, page + 2))).toThrow("does not go on with the record before it");
  expect(made(({ bytes }) => bytes.writeUInt32LE(5, page + 16))).toThrow("goes on with 5 bytes of a record that lacks");
  expect(made(() => {}, 600)).toThrow("begins a record that is not over at 0/500258");
  const short = openWriter();
  short.add(10);
  expect(() => check(short.bytes, { to: short.at + 10_000 })).toThrow("holds no record");
});

test("a record that is not the next one of its server is told, though its own checksum is right", () => {
  const writer = openWriter();
  writer.add(100);
  const second = writer.add(100);
  const other = openWriter();
  other.add(60);
  other.add(16);
  other.add(0);
  other.add(100);
  // The same place, another past.
  const third = other.add(100);
  const copy = Buffer.from(other.bytes.subarray(third, third + 124));
  copy.copy(writer.bytes, second);
  expect(() => check(writer.bytes, { to: writer.at })).toThrow("follows a record at");
});

test("what a backup or a restore point ends with is known by its record, which is the last one", () => {
  const last = (write: (writer: ReturnType<typeof openWriter>) => void) => {
    const writer = openWriter();
    for (let index = 0; index < 9; index++) writer.add(1000);
    write(writer);
    const opened = openRecordCheck(wal);
    const endLsn = baseLsn + BigInt(writer.at);
    opened.take(writer.bytes.subarray(0, 2 * page), { lsn: baseLsn, endLsn });
    expect(opened.last?.endLsn).toBe(endLsn);
    if (!opened.last) throw new Error("no record was found");
    return opened.last;
  };
  const ended = last((writer) => writer.endBackup(0x500028n));
  expect(isEndRecord(ended, { is: "backupEnd", startLsn: 0x500028n })).toBe(true);
  expect(isEndRecord(ended, { is: "backupEnd", startLsn: 0x500030n })).toBe(false);
  expect(isEndRecord(ended, { is: "restorePoint", name: "x" })).toBe(false);
  const marked = last((writer) => writer.markPoint("coppice_bkp_1"));
  expect(isEndRecord(marked, { is: "restorePoint", name: "coppice_bkp_1" })).toBe(true);
  expect(isEndRecord(marked, { is: "restorePoint", name: "coppice_bkp" })).toBe(false);
  expect(isEndRecord(marked, { is: "backupEnd", startLsn: 0n })).toBe(false);
  const other = last((writer) => writer.add(200));
  expect(isEndRecord(other, { is: "backupEnd", startLsn: 0n })).toBe(false);
});
