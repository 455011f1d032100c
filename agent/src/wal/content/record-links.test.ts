import { expect, test } from "vitest";
import { openLinkReader } from "./record-links.ts";

const pageBytes = 8192;
const startLsn = 5n << 24n;

interface Page {
  readonly flags?: number;
  readonly restBytes?: number;
  /** Where records begin in the page, their lengths, what they follow, and what they are. */
  readonly records?: readonly {
    readonly at: number;
    readonly bytes: number;
    readonly prev: bigint;
    readonly info?: number;
  }[];
}

function pages(...made: readonly Page[]): Buffer {
  return pagesOf(pageBytes, made);
}

/** Of a server that says that its pages are that large. */
function pagesOf(blockBytes: number, made: readonly Page[]): Buffer {
  return Buffer.concat(
    made.map(({ flags = 0, restBytes = 0, records = [] }, index) => {
      const bytes = Buffer.alloc(pageBytes + 64);
      bytes.writeUInt16LE(flags | (index === 0 ? 2 : 0), 2);
      bytes.writeBigUInt64LE(startLsn + BigInt(index * pageBytes), 8);
      bytes.writeUInt32LE(restBytes, 16);
      if (index === 0) bytes.writeUInt32LE(blockBytes, 36);
      for (const { at, bytes: length, prev, info = 0 } of records) {
        bytes.writeUInt32LE(length, at);
        bytes.writeBigUInt64LE(prev, at + 8);
        bytes.writeUInt8(info, at + 16);
        bytes.writeBigUInt64LE(info === 0 ? 0n : 7777n, at + 26);
      }
      return bytes.subarray(0, pageBytes);
    }),
  );
}

function linksOf(bytes: Buffer) {
  const reader = openLinkReader(startLsn);
  // Pieces do not keep to pages.
  for (let at = 0; at < bytes.length; at += 5000) reader.take(bytes.subarray(at, at + 5000));
  const { beforeLsn, lastLsn } = reader.links();
  return { beforeLsn, last: lastLsn && Number(lastLsn - startLsn) };
}

test("the first record that begins says what it follows, behind the end of one that began before, and the last one is found", () => {
  const whole = pages(
    {
      flags: 1,
      restBytes: 100,
      records: [
        { at: 144, bytes: 50, prev: 42n },
        { at: 200, bytes: 24, prev: 1n },
      ],
    },
    {},
    {},
  );
  expect(linksOf(whole)).toEqual({ beforeLsn: 42n, last: 200 });
  // As far as it has come.
  expect(linksOf(whole.subarray(0, 60))).toEqual({ beforeLsn: undefined, last: undefined });
  expect(linksOf(whole.subarray(0, 190))).toEqual({ beforeLsn: 42n, last: 144 });
});

test("a first record whose header goes on in the next page says it there, and one of many pages says nothing", () => {
  const next = pages(
    { flags: 1, restBytes: pageBytes - 40 - 8, records: [{ at: pageBytes - 8, bytes: 100, prev: 0n }] },
    { flags: 1, restBytes: 92 },
  );
  next.writeBigUInt64LE(43n, pageBytes + 24);
  expect(linksOf(next)).toEqual({ beforeLsn: 43n, last: pageBytes - 8 });
  expect(linksOf(pages({ flags: 1, restBytes: 1 << 20 }, { flags: 1, restBytes: 1 << 19 }))).toEqual({
    beforeLsn: undefined,
    last: undefined,
  });
});

test("one that takes the place of a record whose end was lost in a crash follows that one", () => {
  const records = [{ at: 40, bytes: 42, prev: 42n, info: 0xd0 }];
  expect(linksOf(pages({ flags: 8, records }))).toEqual({ beforeLsn: 7777n, last: 40 });
});

test("WAL of a server with pages of another size ties nothing", () => {
  const made = [{ records: [{ at: 40, bytes: 50, prev: 42n }] }];
  expect(linksOf(pagesOf(pageBytes, made))).toEqual({ beforeLsn: 42n, last: 40 });
  expect(linksOf(pagesOf(2 * pageBytes, made))).toEqual({ beforeLsn: undefined, last: undefined });
});
