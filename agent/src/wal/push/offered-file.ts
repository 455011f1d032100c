import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { Readable } from "node:stream";
import { Failure, fail } from "@coppice/proto/kit/failure";
import { type CommitRun, readCommits, type SegmentPlace } from "../content/commit-times.ts";
import { digestPart } from "../content/part-digest.ts";
import { openLinkReader, type RecordLinks } from "../content/record-links.ts";
import type { Press } from "../press/press.ts";
import { segmentHeaderBytes } from "../store/segment-header.ts";
import { compressWal, readableOf } from "../store/wal-codec.ts";

/** A file that a server offers, open and read once. */
export interface OfferedFile extends AsyncDisposable {
  readonly sizeBytes: number;
  /** SHA-256 of its bytes, lower-case hexadecimal. */
  readonly sha256: () => Promise<string>;
  readonly header: Buffer;
  /** Whole, of a small file such as a history; else empty. */
  readonly text: string;
  /** The same text of the same file means that nothing was written into it meanwhile. */
  readonly identity: string;
  /** Of a segment, when transactions in it ended. */
  readonly commits: readonly CommitRun[];
  /** Of a segment, what ties it to those beside it. */
  readonly links: RecordLinks;
  /** The digest of so many first bytes, as digestPart gives it. */
  readonly partSha256: (bytes: number) => Promise<string | undefined>;
  /** Its bytes, compressed by zstd; called once. */
  readonly compressed: (level: number) => Promise<Readable>;
}

const chunkBytes = 1 << 20;
const mostTextBytes = 64 << 10;
/** Segments of the usual sizes are read once and held, larger ones are read twice. */
const mostHeldBytes = 64 << 20;

/**
 * Opens a file and reads it. Links are not followed, and one of another owner than `uid` is refused: whoever offers it
 * must not get at what only this process may read. Without a press it is read here: who holds one of its threads must not
 * wait for another. Fails with WAL_FOREIGN, WAL_FILE_UNREADABLE.
 */
export async function openOffered(
  path: string,
  {
    uid,
    press,
    segment,
  }: {
    readonly uid: number | undefined;
    readonly press: Press | undefined;
    readonly segment: SegmentPlace | undefined;
  },
): Promise<OfferedFile> {
  const file = await openPlain(path);
  try {
    const found = await file.stat({ bigint: true });
    if (!found.isFile()) fail("WAL_FOREIGN", `${path} is not a plain file`);
    if (uid !== undefined && found.uid !== BigInt(uid))
      fail("WAL_FOREIGN", `${path} does not belong to the server's user`);
    const { sizeBytes, sha256, start, commits, links, compressed, release } =
      press && found.size <= mostHeldBytes
        ? await hold(file, { expectedBytes: Number(found.size), segment }, press)
        : await pass(file, segment);
    return {
      sizeBytes,
      sha256,
      header: start.subarray(0, segmentHeaderBytes),
      text: sizeBytes <= mostTextBytes ? start.toString("utf8") : "",
      identity: identityOf(found),
      commits,
      links,
      partSha256: (bytes) => digestPart(chunksOf(file), { bytes, sizeBytes }),
      compressed,
      async [Symbol.asyncDispose]() {
        await release();
        await file.close();
      },
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

interface ReadFile extends Pick<OfferedFile, "sizeBytes" | "sha256" | "commits" | "links" | "compressed"> {
  /** Its first bytes. */
  readonly start: Buffer;
  readonly release: () => Promise<void>;
}

async function hold(
  file: FileHandle,
  wanted: { readonly expectedBytes: number; readonly segment: SegmentPlace | undefined },
  press: Press,
): Promise<ReadFile> {
  const pressed = await press.read(file, wanted);
  return {
    ...pressed,
    sha256: async () => await pressed.sha256(),
    compressed: async (level) => readableOf(await pressed.compress(level)),
    release: async () => await pressed[Symbol.asyncDispose](),
  };
}

async function pass(file: FileHandle, segment: SegmentPlace | undefined): Promise<ReadFile> {
  const hash = createHash("sha256");
  const reading = readCommits(segment);
  const links = openLinkReader(segment?.startLsn ?? 0n);
  let start = Buffer.alloc(0);
  let sizeBytes = 0;
  for await (const chunk of chunksOf(file)) {
    hash.update(chunk);
    reading.take(chunk, sizeBytes);
    links.take(chunk);
    sizeBytes += chunk.length;
    if (start.length < mostTextBytes) start = Buffer.concat([start, chunk.subarray(0, mostTextBytes)]);
  }
  const sha256 = hash.digest("hex");
  const read = () => Readable.from(chunksOf(file), { objectMode: false, highWaterMark: chunkBytes });
  return {
    sizeBytes,
    sha256: async () => sha256,
    start,
    commits: reading.commits(),
    links: links.links(),
    compressed: async (level) => compressWal(read(), level),
    release: async () => {},
  };
}

/** The identity of what lies at a path now. Fails with WAL_FOREIGN, WAL_FILE_UNREADABLE. */
export async function identityAt(path: string): Promise<string> {
  await using file = await openPlain(path);
  return identityOf(await file.stat({ bigint: true }));
}

async function openPlain(path: string): Promise<FileHandle> {
  try {
    // NONBLOCK, because opening a FIFO would wait for its other end.
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (code === "ELOOP") throw new Failure("WAL_FOREIGN", `${path} is a symbolic link`, { cause });
    throw new Failure("WAL_FILE_UNREADABLE", `the agent cannot read ${path}: ${code}`, { cause });
  }
}

function identityOf({ dev, ino, size, mtimeNs }: { dev: bigint; ino: bigint; size: bigint; mtimeNs: bigint }): string {
  return [dev, ino, size, mtimeNs].join(" ");
}

/** From its beginning. */
async function* chunksOf(file: FileHandle): AsyncGenerator<Buffer, void> {
  for (let at = 0; ;) {
    const buffer = Buffer.allocUnsafe(chunkBytes);
    const { bytesRead } = await file.read(buffer, 0, chunkBytes, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
