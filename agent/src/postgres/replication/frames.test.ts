import { expect, test } from "vitest";
import { copyHeadBytes, createFrameReader } from "./frames.ts";

function frame(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

function read(bytes: Buffer, chunkBytes: number): string[] {
  const seen: string[] = [];
  let copy: Buffer[] = [];
  const feed = createFrameReader({
    onMessage: (type, body) => seen.push(`${type}:${body.toString("latin1")}`),
    onCopyPiece: (piece, isFirst, isLast) => {
      expect(!isFirst || isLast || piece.length >= copyHeadBytes).toBe(true);
      copy = isFirst ? [piece] : [...copy, piece];
      if (isLast) seen.push(`d:${Buffer.concat(copy).toString("latin1")}`);
    },
  });
  for (let at = 0; at < bytes.length; at += chunkBytes) feed(bytes.subarray(at, at + chunkBytes));
  return seen;
}

test("messages come out the same however the bytes were cut", () => {
  const parts: [string, string][] = [
    ["T", "columns"],
    ["d", ""],
    ["d", "w"],
    ["d", "n".repeat(300)],
    ["c", ""],
    ["d", "x".repeat(25)],
    ["Z", "I"],
  ];
  const bytes = Buffer.concat(parts.map(([type, body]) => frame(type, Buffer.from(body))));
  const expected = parts.map(([type, body]) => `${type}:${body}`);
  for (let chunkBytes = 1; chunkBytes <= bytes.length; chunkBytes++) expect(read(bytes, chunkBytes)).toEqual(expected);
});

test("a chunk is said to be content alone when nothing of it is kept", () => {
  const content = frame("d", Buffer.from("d".repeat(300)));
  const feed = createFrameReader({ onMessage: () => {}, onCopyPiece: () => {} });
  const chunks = [
    content,
    content.subarray(0, 200),
    content.subarray(200),
    content.subarray(0, 20),
    content.subarray(20),
  ];
  const rows = frame("D", Buffer.from("row"));
  expect([...chunks, Buffer.concat([content, rows]), rows].map(feed)).toEqual([
    true,
    true,
    true,
    false,
    true,
    false,
    false,
  ]);
});

test("bytes that are no messages are refused", () => {
  expect(() => read(Buffer.from("HTTP/1.1 400 Bad Request\r\n"), 64)).toThrow("no message of its protocol");
  expect(() => read(Buffer.from([0x5a, 0, 0, 0, 3]), 64)).toThrow("no message of its protocol");
});
