import { expect, test } from "vitest";
import { parseLsn } from "./lsn.ts";
import {
  backupHistoryName,
  historyName,
  parseWalFile,
  partialName,
  segmentName,
  segmentNumber,
  segmentStart,
} from "./segment.ts";

const mib = 1n << 20n;

test("a segment's name says its timeline in hexadecimal and where it begins", () => {
  expect(segmentName(1, parseLsn("0/3000028"), 16n * mib)).toBe("000000010000000000000003");
  expect(segmentName(26, parseLsn("1/0"), 16n * mib)).toBe("0000001A0000000100000000");
  expect(parseWalFile("0000001A00000001000000FF", 16n * mib)).toEqual({
    kind: "segment",
    timeline: 26,
    startLsn: parseLsn("1/FF000000"),
  });
});

test("the last part of a name runs as far as segments of the cluster's size fill 4 GiB", () => {
  expect(segmentName(1, parseLsn("0/FFFFFFFF"), mib)).toBe("000000010000000000000FFF");
  expect(segmentName(1, parseLsn("5/C0000000"), 1024n * mib)).toBe("000000010000000500000003");
  expect(parseWalFile("000000010000000500000003", 1024n * mib)).toMatchObject({ startLsn: parseLsn("5/C0000000") });
  expect(parseWalFile("000000010000000500000004", 1024n * mib)).toBeUndefined();
  expect(parseWalFile("000000010000000000000100", 16n * mib)).toBeUndefined();
  expect(parseWalFile("000000010000000000000100", mib)).toMatchObject({ startLsn: parseLsn("0/10000000") });
});

test("names and positions lead to each other for every size of segments", () => {
  for (let size = mib; size <= 1024n * mib; size *= 2n) {
    for (const lsn of ["0/0", "0/FFFFFFFF", "16/B374D848", "FFFFFFFF/0"].map(parseLsn)) {
      const start = segmentStart(lsn, size);
      expect(parseWalFile(segmentName(3, lsn, size), size)).toEqual({ kind: "segment", timeline: 3, startLsn: start });
      expect(segmentNumber(start, size) * size).toBe(start);
      const backup = { kind: "backup", timeline: 3, startLsn: start, lsn };
      expect(parseWalFile(backupHistoryName(3, lsn, size), size)).toEqual(backup);
      for (const endLsn of [start + 1n, start + size]) {
        const file = { kind: "partial", timeline: 3, startLsn: start, endLsn };
        expect(parseWalFile(partialName(3, endLsn, size), size)).toEqual(file);
      }
    }
  }
});

test("a history file names its timeline alone, a partial segment of PostgreSQL no end", () => {
  expect(historyName(10)).toBe("0000000A.history");
  expect(parseWalFile("0000000A.history", 16n * mib)).toEqual({ kind: "history", timeline: 10 });
  expect(parseWalFile("000000010000000000000003.partial", 16n * mib)).toEqual({
    kind: "partial",
    timeline: 1,
    startLsn: parseLsn("0/3000000"),
    endLsn: undefined,
  });
  expect(backupHistoryName(1, parseLsn("0/3000028"), 16n * mib)).toBe("000000010000000000000003.00000028.backup");
});

test("names that no archive of the cluster has are not understood", () => {
  const names = [
    "",
    "archive_status",
    "00000000.history",
    "0000000a.history",
    "000000000000000000000003",
    "00000001000000000000000",
    "000000010000000000000003.gz",
    "000000010000000000000003.00000028",
    "000000010000000000000003.01000000.backup",
    "000000010000000000000003.partial.0000000003000000",
    "000000010000000000000003.partial.0000000004000001",
    "../000000010000000000000003",
    "000000010000000000000003\n",
  ];
  for (const name of names) expect(parseWalFile(name, 16n * mib), name).toBeUndefined();
  expect(parseWalFile("000000010000000000000003", 3n * mib)).toBeUndefined();
});
