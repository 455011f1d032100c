import { fail } from "@coppice/proto/kit/failure";
import { blockBytes, paddingOf } from "./header.ts";

/** What an archive of PostgreSQL's server holds. */
export interface TarEntry {
  /** Bytes as written, as latin1; a folder's name ends with a slash or not. */
  readonly name: string;
  readonly type: "file" | "folder" | "link";
  /** Of a file. */
  readonly sizeBytes: number;
  /** Where a link points. */
  readonly target: string;
  readonly mode: number;
}

/** Takes an archive's entries in their order. */
export interface TarSink {
  onEntry(entry: TarEntry): void | Promise<void>;
  /** A piece of the file that came last. */
  onContent(piece: Buffer): void | Promise<void>;
  /** The file that came last is complete. */
  onFileEnd(entry: TarEntry): void | Promise<void>;
}

function broken(what: string): never {
  return fail("CONTENT_UNREADABLE", `the archive is no tar as PostgreSQL writes it: ${what}`);
}

function textAt(header: Buffer, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString("latin1", 0, end < 0 ? length : end);
}

/** Octal digits, or a binary number of files of 8 GiB and more. */
function numberAt(header: Buffer, start: number, length: number): number {
  if (header.readUInt8(start) & 0x80) return header.readUIntBE(start + length - 6, 6);
  const text = textAt(header, start, length).trim();
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : broken(`a header holds ${JSON.stringify(text)}`);
}

function parseHeader(header: Buffer): TarEntry {
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  if (sum !== numberAt(header, 148, 8)) broken("a header's checksum is wrong");
  const prefix = textAt(header, 345, 155);
  const name = textAt(header, 0, 100);
  const types: Readonly<Record<string, TarEntry["type"]>> = { "0": "file", "\0": "file", "2": "link", "5": "folder" };
  const flag = String.fromCharCode(header.readUInt8(156));
  const type = types[flag] ?? broken(`an entry has the type ${JSON.stringify(flag)}`);
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    type,
    sizeBytes: type === "file" ? numberAt(header, 124, 12) : 0,
    target: textAt(header, 157, 100),
    mode: numberAt(header, 100, 8),
  };
}

/**
 * Reads an archive to its end. Holds no more than a header; pieces of content are parts of what was read. Fails with
 * CONTENT_UNREADABLE, also when it ends before its own end, or with what source and sink fail with.
 */
export async function readTar(source: AsyncIterable<Uint8Array>, sink: TarSink): Promise<void> {
  let head = Buffer.alloc(0);
  let entry: TarEntry | undefined;
  let contentLeft = 0;
  let paddingLeft = 0;
  let emptyBlocks = 0;

  for await (const read of source) {
    let chunk = Buffer.from(read.buffer, read.byteOffset, read.byteLength);
    while (chunk.length > 0) {
      if (contentLeft > 0) {
        const piece = chunk.subarray(0, contentLeft);
        contentLeft -= piece.length;
        chunk = chunk.subarray(piece.length);
        await sink.onContent(piece);
        if (contentLeft === 0 && entry) await sink.onFileEnd(entry);
        continue;
      }
      if (paddingLeft > 0) {
        const skipped = Math.min(paddingLeft, chunk.length);
        paddingLeft -= skipped;
        chunk = chunk.subarray(skipped);
        continue;
      }
      const wanted = blockBytes - head.length;
      head = Buffer.concat([head, chunk.subarray(0, wanted)]);
      chunk = chunk.subarray(wanted);
      if (head.length < blockBytes) continue;
      const header = head;
      head = Buffer.alloc(0);
      if (header.every((byte) => byte === 0)) {
        emptyBlocks += 1;
        continue;
      }
      if (emptyBlocks > 0) broken("something follows its end");
      entry = parseHeader(header);
      contentLeft = entry.sizeBytes;
      paddingLeft = paddingOf(entry.sizeBytes);
      await sink.onEntry(entry);
      if (entry.type === "file" && contentLeft === 0) await sink.onFileEnd(entry);
    }
  }
  if (emptyBlocks < 2 || contentLeft > 0 || head.length > 0) broken("it was cut off");
}
