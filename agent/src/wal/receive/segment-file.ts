import { createHash } from "node:crypto";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { segmentName } from "@coppice/proto/kit/wal/segment";
import { openLinkReader, type RecordLinks } from "../content/record-links.ts";
import { segmentHeaderBytes } from "../store/segment-header.ts";

/** What is there of a segment at one moment, filled up with zeros to its size. */
export interface SegmentSnapshot {
  readonly endLsn: bigint;
  readonly sha256: string;
  readonly header: Buffer;
  /** What ties it to the segments beside it. */
  readonly links: RecordLinks;
  /** Its bytes. */
  readonly read: () => Readable;
}

/** A segment on its way from the server to the repository, in a file that is of no use after the process. */
export interface SegmentFile {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly name: string;
  /** First position that has not come yet. */
  readonly endLsn: bigint;
  /** Takes what comes next; gives a promise when it has to be written before more is taken. */
  add(bytes: Buffer): Promise<void> | undefined;
  /** SHA-256 of what a snapshot would hold now. */
  digest(): string;
  /** What has come so far; to be disposed. */
  snapshot(): Promise<SegmentSnapshot & AsyncDisposable>;
  /** Closes and removes the file; snapshots that are still read stay readable. */
  drop(): Promise<void>;
}

const batchBytes = 1 << 20;
const zeros = Buffer.alloc(1 << 20);

/** Begins a segment in the folder. */
export async function openSegmentFile(
  folder: string,
  { timeline, startLsn, segmentBytes }: { timeline: number; startLsn: bigint; segmentBytes: bigint },
): Promise<SegmentFile> {
  const name = segmentName(timeline, startLsn, segmentBytes);
  const path = join(folder, name);
  const file = await open(path, "w", 0o600);
  const hash = createHash("sha256");
  const links = openLinkReader(startLsn);
  let header = Buffer.alloc(0);
  let length = 0;
  let written = 0;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  // Batches one after the other; the file ends where the last one ended.
  let writing = Promise.resolve();
  const flush = (): Promise<void> => {
    const batch = pending;
    const at = written;
    written += pendingBytes;
    pending = [];
    pendingBytes = 0;
    return (writing = writing.then(() => writeAll(batch, at)));
  };
  async function writeAll(batch: readonly Buffer[], at: number): Promise<void> {
    const bytes = batch.length === 1 && batch[0] ? batch[0] : Buffer.concat(batch);
    for (let offset = 0; offset < bytes.length;)
      offset += (await file.write(bytes, offset, bytes.length - offset, at + offset)).bytesWritten;
  }

  const digest = () => {
    const whole = hash.copy();
    for (let left = Number(segmentBytes) - length; left > 0; left -= zeros.length) {
      whole.update(zeros.subarray(0, left));
    }
    return whole.digest("hex");
  };

  return {
    timeline,
    startLsn,
    name,
    digest,
    get endLsn() {
      return startLsn + BigInt(length);
    },
    add(bytes) {
      hash.update(bytes);
      links.take(bytes);
      if (header.length < segmentHeaderBytes) header = Buffer.concat([header, bytes.subarray(0, segmentHeaderBytes)]);
      length += bytes.length;
      pending.push(bytes);
      pendingBytes += bytes.length;
      return pendingBytes >= batchBytes ? flush() : undefined;
    },
    async snapshot() {
      const end = length;
      const padding = Number(segmentBytes) - end;
      const sha256 = digest();
      const own = await open(path, "r");
      try {
        await flush();
      } catch (error) {
        await own.close();
        throw error;
      }
      return {
        endLsn: startLsn + BigInt(end),
        sha256,
        header,
        links: links.links(),
        read: () => Readable.from(readWhole(own, end, padding), { objectMode: false, highWaterMark: batchBytes }),
        [Symbol.asyncDispose]: () => own.close(),
      };
    },
    async drop() {
      await writing.catch(() => {});
      await file.close();
      await rm(path, { force: true });
    },
  };
}

type Handle = Awaited<ReturnType<typeof open>>;

async function* readWhole(file: Handle, end: number, padding: number): AsyncGenerator<Buffer, void> {
  for (let at = 0; at < end;) {
    const buffer = Buffer.allocUnsafe(Math.min(batchBytes, end - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw new Error("a segment's file became shorter");
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
  for (let left = padding; left > 0; left -= zeros.length) yield zeros.subarray(0, left);
}
