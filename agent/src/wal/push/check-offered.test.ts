import { expect, test } from "vitest";
import { checkOffered } from "./check-offered.ts";

const server = { systemIdentifier: "7312345678901234567", segmentBytes: 1n << 20n };

/** The header of a segment's first page. */
function header(over: { system?: bigint; timeline?: number; address?: bigint; size?: number } = {}): Buffer {
  const page = Buffer.alloc(40);
  page.writeUInt16LE(0x0002, 2);
  page.writeUInt32LE(over.timeline ?? 2, 4);
  page.writeBigUInt64LE(over.address ?? 0x300000n, 8);
  page.writeBigUInt64LE(over.system ?? 7312345678901234567n, 24);
  page.writeUInt32LE(over.size ?? 1 << 20, 32);
  return page;
}

const file = (over = {}) => ({ sizeBytes: 1 << 20, header: header(over), text: "" });
const foreign = expect.objectContaining({ reason: "WAL_FOREIGN" }) as Error;

test("a segment, whole or partial, is known by its size and its first page", () => {
  const name = "000000020000000000000003";
  expect(checkOffered(name, file(), server)).toEqual({ kind: "segment", timeline: 2, startLsn: 0x300000n });
  expect(checkOffered(`${name}.partial`, file(), server).kind).toBe("partial");
  // The first segment of a timeline begins with pages of the one before.
  expect(checkOffered(name, file({ timeline: 1 }), server).kind).toBe("segment");
  for (const over of [{ system: 1n }, { timeline: 3 }, { address: 0x400000n }, { size: 1 << 24 }])
    expect(() => checkOffered(name, file(over), server), Object.keys(over).join(" ")).toThrow(foreign);
  expect(() => checkOffered(name, { ...file(), sizeBytes: 100 }, server)).toThrow(foreign);
  expect(() => checkOffered("archive_status", file(), server)).toThrow(foreign);
});

test("histories of timelines and of backups are known by what is written in them", () => {
  const text = (content: string) => ({ sizeBytes: content.length, header: Buffer.alloc(0), text: content });
  expect(checkOffered("00000002.history", text("1\t0/3000000\tno reason\n"), server).kind).toBe("history");
  for (const content of ["", "nonsense\n"])
    expect(() => checkOffered("00000002.history", text(content), server)).toThrow(
      expect.objectContaining({ reason: "TIMELINE_HISTORY_INVALID" }) as Error,
    );
  const backup = "000000020000000000000003.00000028.backup";
  expect(checkOffered(backup, text("START WAL LOCATION: 0/300028 (file …)\n"), server).kind).toBe("backup");
  expect(() => checkOffered(backup, text("root:x:0:0\n"), server)).toThrow(foreign);
});
