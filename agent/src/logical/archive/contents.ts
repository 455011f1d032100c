import { fail } from "@coppice/proto/kit/failure";
import { clientEncodingIn, makeNameDecoder } from "../sql/text-decoder.ts";

/** One entry of an archive's table of contents, as pg_dump wrote it. */
export interface ArchiveEntry {
  readonly id: number;
  /** Kind of the object, for example TABLE DATA. */
  readonly kind: string;
  /** Empty for what is in no schema. */
  readonly schema: string;
  readonly name: string;
  readonly owner: string;
  /** SQL that makes it; empty for data. */
  readonly definition: string;
  /** COPY statement of table data; empty otherwise, and for rows that were dumped as INSERT. */
  readonly copy: string;
  readonly section: "none" | "pre-data" | "data" | "post-data";
  /** Ids of the entries that it needs; some may not be in the archive. */
  readonly needs: readonly number[];
}

/** What an archive of pg_dump says of itself. */
export interface ArchiveContents {
  /** Name of the database that was dumped. */
  readonly database: string;
  /** Major version of the server, and of the pg_dump that made it. */
  readonly serverMajor: number;
  readonly toolMajor: number;
  /** What PostgreSQL calls the encoding of its names, statements and rows. */
  readonly encoding: string;
  readonly entries: readonly ArchiveEntry[];
}

const magic = "PGDMP";
const sections = ["none", "none", "pre-data", "data", "post-data"] as const;
/** Versions of the archive's format that PostgreSQL 12 to 18 write; their entries differ as read below. */
const oldest = 14;
const newest = 16;
const formats = { custom: 1, tar: 3 } as const;
const usualEncoding = "UTF8";

/** More bytes than were given are needed. */
class Short extends Error {}

class Reader {
  readonly #bytes: Buffer;
  readonly #decode: (bytes: Buffer) => string;
  #place = 0;
  #intSize = 4;

  constructor(bytes: Buffer, encoding: string) {
    this.#bytes = bytes;
    this.#decode = makeNameDecoder(encoding);
  }

  take(count: number): Buffer {
    const end = this.#place + count;
    if (end > this.#bytes.length) throw new Short();
    const taken = this.#bytes.subarray(this.#place, end);
    this.#place = end;
    return taken;
  }

  byte(): number {
    return this.take(1)[0] ?? 0;
  }

  setIntSize(size: number): void {
    if (size < 1 || size > 6) notReadable(`its numbers have ${size} bytes`);
    this.#intSize = size;
  }

  /** A byte for the sign, then the lowest byte first. */
  int(): number {
    const isNegative = this.byte() !== 0;
    const value = this.take(this.#intSize).readUIntLE(0, this.#intSize);
    return isNegative ? -value : value;
  }

  text(): string {
    const length = this.int();
    return length < 0 ? "" : this.#decode(this.take(length));
  }

  /** A list of texts that ends with none at all. */
  list(): string[] {
    const texts: string[] = [];
    for (;;) {
      const length = this.int();
      if (length < 0) return texts;
      texts.push(this.#decode(this.take(length)));
    }
  }
}

function notReadable(why: string): never {
  return fail("ARCHIVE_UNREADABLE", `the archive of pg_dump cannot be read: ${why}`);
}

function majorIn(version: string): number {
  return Number.parseInt(version, 10) || 0;
}

/** As `_ReadExtraToc` of each format: where the data is, which is of no use here. */
function skipPlace(reader: Reader, format: number, offsetSize: number): void {
  if (format === formats.custom) reader.take(1 + offsetSize);
  else reader.text();
}

function readEntry(reader: Reader, minor: number): ArchiveEntry {
  const id = reader.int();
  reader.int();
  reader.text();
  reader.text();
  const name = reader.text();
  const kind = reader.text();
  const section = sections[reader.int()] ?? "none";
  const definition = reader.text();
  reader.text();
  const copy = reader.text();
  const schema = reader.text();
  reader.text();
  reader.text();
  if (minor >= 16) reader.int();
  const owner = reader.text();
  reader.text();
  const needs = reader.list().map(Number);
  return { id, kind, schema, name, owner, definition, copy, section, needs };
}

function read(reader: Reader): ArchiveContents {
  if (reader.take(magic.length).toString("latin1") !== magic) notReadable("it does not begin as one");
  const [major, minor] = [reader.byte(), reader.byte()];
  reader.byte();
  if (major !== 1 || minor < oldest || minor > newest)
    fail("FEATURE_UNKNOWN", `the archive of pg_dump has the format ${major}.${minor}, which is not known`);
  reader.setIntSize(reader.byte());
  const offsetSize = reader.byte();
  const format = reader.byte();
  if (minor >= 15) reader.byte();
  else reader.int();
  // When it was made: second to year, and whether it was summer.
  for (let part = 0; part < 7; part++) reader.int();
  const database = reader.text();
  const [serverMajor, toolMajor] = [majorIn(reader.text()), majorIn(reader.text())];
  const count = reader.int();
  const entries: ArchiveEntry[] = [];
  for (let index = 0; index < count; index++) {
    entries.push(readEntry(reader, minor));
    skipPlace(reader, format, offsetSize);
  }
  const encoding = clientEncodingIn(entries.find(({ kind }) => kind === "ENCODING")?.definition ?? "");
  return { database, serverMajor, toolMajor, encoding: encoding ?? usualEncoding, entries };
}

/**
 * Parses the beginning of an archive of pg_dump -Fc, or toc.dat of -Fd and -Ft, as WriteHead and WriteToc of
 * pg_backup_archiver.c lay it out; `pg_restore --list` writes names with spaces and line breaks so that they cannot be
 * told apart. Names are read in the archive's encoding; what is no text in it is its bytes, written out. Undefined when the bytes end too early. Fails with ARCHIVE_UNREADABLE or FEATURE_UNKNOWN.
 */
export function parseContents(bytes: Buffer): ArchiveContents | undefined {
  try {
    const contents = read(new Reader(bytes, usualEncoding));
    const { encoding } = contents;
    // Which one it is shows in the first entry; that one is in ASCII.
    return encoding === usualEncoding ? contents : read(new Reader(bytes, encoding));
  } catch (error) {
    if (error instanceof Short) return undefined;
    throw error;
  }
}

const mostBytes = 512 << 20;

/** Reads an archive's table of contents off the beginning of its bytes. Fails as parseContents does. */
export async function readContents(bytes: AsyncIterable<Buffer>): Promise<ArchiveContents> {
  const chunks: Buffer[] = [];
  let [size, next] = [0, 1 << 16];
  for await (const chunk of bytes) {
    chunks.push(chunk);
    size += chunk.length;
    if (size < next) continue;
    if (size > mostBytes) notReadable(`its table of contents has more than ${mostBytes} bytes`);
    next = size * 2;
    const contents = parseContents(Buffer.concat(chunks));
    if (contents) return contents;
  }
  return parseContents(Buffer.concat(chunks)) ?? notReadable("it ends within its table of contents");
}
