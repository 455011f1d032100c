import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { type StoredStream, StoredStreamSchema } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { formatDuration } from "@coppice/proto/kit/duration";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { historyName, segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { WalStretch } from "@coppice/proto/kit/wal/archived-wal";
import { walKey, type WalPlace, walPrefix } from "../../repository/layout.ts";
import { findSegment } from "../../repository/wal/find-segment.ts";
import type { Storage } from "../../storage/storage.ts";

/** WAL that has to be in a repository's archive before a backup counts. */
export interface NeededWal extends WalStretch {
  readonly place: WalPlace;
  /** Its last segment may come as one that is not full, because nobody here can end it. */
  readonly mayBePartial: boolean;
  /** For people: of which cluster. */
  readonly clusterName: string;
  /** Longest time without any more of it. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** Told what is waited for, once for each file. */
  readonly onWait: (name: string) => void;
}

const pollMs = 500;
const ageMagic = Buffer.from("age-encryption.org/");
const zstdMagic = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

/** Reads a file of the archive to its end; undefined when it is not there. */
async function readFile(storage: Storage, wal: NeededWal, name: string): Promise<StoredStream | undefined> {
  const { place, signal } = wal;
  const key = walKey(place, name);
  let source: AsyncIterable<Buffer>;
  try {
    source = await storage.get(key, { signal });
  } catch (error) {
    if (isFailure(error, "OBJECT_MISSING")) return undefined;
    throw error;
  }
  const hash = createHash("sha256");
  let head = Buffer.alloc(0);
  let sizeBytes = 0n;
  for await (const chunk of source) {
    if (head.length < ageMagic.length) head = Buffer.concat([head, chunk.subarray(0, ageMagic.length)]);
    hash.update(chunk);
    sizeBytes += BigInt(chunk.length);
  }
  const begins = (magic: Buffer) => head.subarray(0, magic.length).equals(magic);
  const encrypted = begins(ageMagic);
  if (!encrypted && !begins(zstdMagic))
    fail("CONTENT_UNREADABLE", `${key} is neither compressed by zstd nor encrypted by age`);
  const object = { key: key.slice(walPrefix(place).length), sizeBytes, sha256: hash.digest("hex") };
  return create(StoredStreamSchema, { codec: "zstd", encrypted, objects: [object] });
}

/** A segment that is stored, whole or, where that is enough, in part. */
async function readSegment(storage: Storage, wal: NeededWal, segment: string): Promise<StoredStream | undefined> {
  const whole = await readFile(storage, wal, segment);
  const isLast = segment === segmentName(wal.timeline, wal.stopLsn - 1n, wal.segmentBytes);
  if (whole || !isLast || !wal.mayBePartial) return whole;
  const { part } = await findSegment(storage, walKey(wal.place, segment), wal.signal);
  if (!part || part.endLsn < wal.stopLsn) return undefined;
  return await readFile(storage, wal, part.key.slice(part.key.lastIndexOf("/") + 1));
}

function missing({ startLsn, stopLsn, timeline, waitMs, clusterName }: NeededWal, name: string): Failure {
  return new Failure(
    "WAL_MISSING",
    `the archive lacks ${name}: the backup needs WAL from ${formatLsn(startLsn)} to ${formatLsn(stopLsn)} on timeline ${timeline}, and no more of it has come for ${formatDuration(waitMs)}`,
    {
      hint: `see why: coppice wal status ${clusterName}; or take the backup with its WAL in it: --wal embedded`,
      metadata: { segment: name },
    },
  );
}

/** Waits for one file. A storage that is in trouble for a while is asked again, no longer than for what is missing. */
async function awaitFile(
  wal: NeededWal,
  name: string,
  read: () => Promise<StoredStream | undefined>,
): Promise<StoredStream> {
  const { signal, waitMs, onWait } = wal;
  const untilMs = performance.now() + waitMs;
  for (let isTold = false; ;) {
    let trouble: Failure | undefined;
    try {
      const found = await read();
      if (found) return found;
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error, "REPOSITORY_UNREACHABLE") && !isFailure(error, "REPOSITORY_IO_ERROR")) throw error;
      trouble = error;
    }
    if (performance.now() > untilMs) throw trouble ?? missing(wal, name);
    if (!isTold) onWait(name);
    isTold = true;
    await sleep(pollMs, signal);
  }
}

/**
 * Waits until every file of the stretch lies in the archive on its timeline, and reads each to its end: what comes back
 * is what is there, in the order of WAL. Fails with WAL_MISSING, naming the file, or as the storage does.
 */
export async function awaitArchivedWal(storage: Storage, wal: NeededWal): Promise<StoredStream[]> {
  const { timeline, startLsn, stopLsn, segmentBytes } = wal;
  if (stopLsn <= startLsn) fail("INTERNAL", "a backup that ends before it begins");
  const files: StoredStream[] = [];
  if (timeline > 1) {
    const name = historyName(timeline);
    files.push(await awaitFile(wal, name, () => readFile(storage, wal, name)));
  }
  for (let lsn = segmentStart(startLsn, segmentBytes); lsn < stopLsn; lsn += segmentBytes) {
    const name = segmentName(timeline, lsn, segmentBytes);
    files.push(await awaitFile(wal, name, () => readSegment(storage, wal, name)));
  }
  return files;
}
