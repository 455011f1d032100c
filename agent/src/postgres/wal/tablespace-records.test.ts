import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openTablespaceWatch } from "./new-tablespaces.ts";
import { madeAcross, openTablespaceFinder, type SegmentTablespaces } from "./tablespace-records.ts";

const pageBytes = 8192;
const segmentBytes = 1 << 20;

/** A record of a resource manager, aligned as in WAL. */
function record(rmid: number, data: Buffer): Buffer {
  const bytes = Buffer.alloc(Math.ceil((29 + data.length) / 8) * 8);
  bytes.writeUInt32LE(29 + data.length, 0);
  bytes.writeBigUInt64LE(0x77n, 8);
  bytes.writeUInt8(rmid, 17);
  bytes.writeUInt8(254, 24);
  bytes.writeUInt32LE(data.length, 25);
  data.copy(bytes, 29);
  return bytes;
}
const space = (location: string) => record(5, Buffer.from(`\x01\x40\0\0${location}\0`));
const filler = (bytes: number) => record(10, Buffer.alloc(bytes - 29));

/** Two segments that follow each other, with one stream of records in them; the second's timeline is another. */
function segments(records: Buffer): [Buffer, Buffer] {
  const both = Buffer.alloc(2 * segmentBytes);
  let taken = 0;
  for (let at = 0; at < both.length; at += pageBytes) {
    const isFirst = at % segmentBytes === 0;
    const header = isFirst ? 40 : 24;
    // What is left of the record that is open, found by going over all before.
    let [begin, rest] = [0, 0];
    while (begin < taken) {
      const total = records.readUInt32LE(begin);
      rest = Math.max(0, begin + total - taken);
      begin += Math.ceil(total / 8) * 8;
    }
    both.writeUInt16LE(0xd110, at);
    both.writeUInt16LE((isFirst ? 2 : 0) | (rest > 0 ? 1 : 0), at + 2);
    both.writeBigUInt64LE(BigInt(segmentBytes + at), at + 8);
    both.writeUInt32LE(rest, at + 16);
    taken += records.copy(both, at + header, taken, taken + pageBytes - header);
  }
  return [both.subarray(0, segmentBytes), both.subarray(segmentBytes)];
}

const named = (made: readonly { location: string }[]) => made.map(({ location }) => location);

test("each segment tells of its own, whatever is looked through at once, and the edge of what lies across it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-records-"));
  try {
    const roomBytes = segmentBytes - 40 - (segmentBytes / pageBytes - 1) * 24;
    const before = Buffer.concat([filler(4096), space("/one")]);
    // It begins 64 bytes in front of the edge.
    const gap = roomBytes - 64 - before.length;
    const across = space(`/${"a".repeat(900)}`);
    const all = Buffer.concat([before, filler(gap), across, filler(2000), space("/two")]);
    const names = ["000000010000000000000001", "000000020000000000000002"];
    const paths = names.map((name) => join(folder, name));
    for (const [index, bytes] of segments(all).entries()) await writeFile(paths[index] ?? "", bytes);
    const find = openTablespaceFinder();
    const [first, second] = (await Promise.all(names.map((name, index) => find(paths[index] ?? "", name)))) as [
      SegmentTablespaces,
      SegmentTablespaces,
    ];
    expect(named(first.made)).toEqual(["/one"]);
    expect(named(second.made)).toEqual(["/two"]);
    expect(named(madeAcross(first, second))).toEqual([`/${"a".repeat(900)}`]);
    expect(madeAcross(first, second)[0]).toMatchObject({ oid: 0x4001, prevLsn: 0x77n });
    expect(madeAcross(second, first)).toEqual([]);
    expect(await find(paths[0] ?? "", "00000002.history")).toBeUndefined();

    // Its place is its own by whatever name; what goes on in the next segment is refused there, however often it is asked for.
    const tablespaces = [{ oid: 0x4001, location: "/one/" }];
    const watch = openTablespaceWatch({ dataDirectory: folder, isScratch: true, tablespaces });
    expect(await watch.admit(first)).toBeUndefined();
    for (const _ of [1, 2]) {
      expect(await watch.admit(second)).toBe(first.endLsn - 64n);
      expect(watch.refused?.reason).toBe("TABLESPACE_NOT_IN_BACKUP");
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
