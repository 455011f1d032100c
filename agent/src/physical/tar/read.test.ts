import { expect, test } from "vitest";
import { endBytes, formatFileHeader, paddingOf } from "./header.ts";
import { readTar } from "./read.ts";

const modified = new Date("2026-11-21T00:00:00Z");

function archive(files: Readonly<Record<string, Buffer>>): Buffer {
  const parts = Object.entries(files).flatMap(([name, content]) => [
    formatFileHeader({ name, sizeBytes: content.length, mode: 0o600, modified }),
    content,
    Buffer.alloc(paddingOf(content.length)),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(endBytes)]);
}

async function read(bytes: Buffer, pieceBytes = bytes.length): Promise<Record<string, string>> {
  async function* pieces() {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }
  const found: Record<string, string> = {};
  const ended: string[] = [];
  let last = "";
  await readTar(pieces(), {
    onEntry: ({ name, sizeBytes, mode }) => {
      last = name;
      found[name] = `${sizeBytes} ${mode.toString(8)} `;
    },
    onContent: (piece) => {
      found[last] += piece.toString("latin1");
    },
    onFileEnd: ({ name }) => void ended.push(name),
  });
  expect(ended).toEqual(Object.keys(found));
  return found;
}

const files = { a: Buffer.from("content"), empty: Buffer.alloc(0), whole: Buffer.alloc(512, "w") };
const expected = { a: "7 600 content", empty: "0 600 ", whole: `512 600 ${"w".repeat(512)}` };

test("what was written is read, in pieces of any size", async () => {
  const bytes = archive(files);
  for (const size of [1, 7, 511, 512, 513, 1024, bytes.length]) expect(await read(bytes, size)).toEqual(expected);
});

test("zeros after the end are of no account", async () => {
  expect(await read(Buffer.concat([archive(files), Buffer.alloc(10_240)]))).toEqual(expected);
});

test("an archive that was cut off anywhere, or goes on after its end, is refused", async () => {
  const bytes = archive(files);
  for (let length = 0; length < bytes.length; length += 100)
    await expect(read(bytes.subarray(0, length))).rejects.toMatchObject({ reason: "CONTENT_UNREADABLE" });
  const more = Buffer.concat([bytes, archive(files)]);
  await expect(read(more)).rejects.toMatchObject({ reason: "CONTENT_UNREADABLE" });
});

test("a header with a flipped bit is refused, and a size of more than 8 GiB is understood", async () => {
  const flipped = archive(files);
  flipped[3] = 1;
  await expect(read(flipped)).rejects.toMatchObject({ reason: "CONTENT_UNREADABLE" });
  const header = formatFileHeader({ name: "large", sizeBytes: 0, mode: 0o600, modified });
  header.writeUInt32BE(0x80000000, 124);
  header.writeBigUInt64BE(9n << 30n, 128);
  header.fill(" ", 148, 156);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0")}\0 `,
    148,
  );
  const entries: number[] = [];
  async function* only() {
    yield header;
  }
  const sink = {
    onEntry: ({ sizeBytes }: { sizeBytes: number }) => void entries.push(sizeBytes),
    onContent() {},
    onFileEnd() {},
  };
  await expect(readTar(only(), sink)).rejects.toMatchObject({ reason: "CONTENT_UNREADABLE" });
  expect(entries).toEqual([9 * 2 ** 30]);
});
