// One thing: an archive read from its first object to its last, what is wrong with it, and what of it is there all the
// same.
import { addAbortSignal, Readable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { historyName } from "@coppice/proto/kit/wal/segment";
import { openRecordCheck, type RecordCheck } from "../../postgres/wal/check-records.ts";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { addExtent, type WalExtent } from "../store/extent.ts";
import { chunkSize, decodeWal, toDecodeFailure } from "../store/wal-codec.ts";
import { type ListedSegment, listWal } from "./list-wal.ts";

/** An archive to verify. */
export interface WalToVerify {
  readonly place: WalPlace;
  readonly segmentBytes: bigint;
  /** What somebody believes to be there. */
  readonly expected: readonly WalExtent[];
  /** Lines of an age identity file; without one what is encrypted is read and not looked into. */
  readonly identities: string | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (work: WorkDone) => void;
}

/** One thing that is wrong. */
export interface WalProblem {
  /** Of the object; empty where there is none. */
  readonly key: string;
  readonly reason: Reason;
  readonly message: string;
  /** What recovery cannot replay because of it. */
  readonly run: WalExtent | undefined;
}

/** What was read, and what came of it. */
export interface VerifiedWal {
  readonly objects: number;
  /** As stored. */
  readonly bytes: bigint;
  /** Decoded. */
  readonly plainBytes: bigint;
  readonly records: bigint;
  /** Parts of segments of which there is more: not read. */
  readonly replaced: number;
  /** Objects that were read and, because they are encrypted and there is no identity, not looked into. */
  readonly undecoded: number;
  readonly problems: readonly WalProblem[];
  /** What is there and sound, or at least readable where it was not looked into. */
  readonly sound: readonly WalExtent[];
}

/** What says something of the object, not of the storage's being there. */
const damage: readonly Reason[] = [
  "CONTENT_UNREADABLE",
  "OBJECT_MISSING",
  "REPOSITORY_IO_ERROR",
  "REPOSITORY_NOT_READABLE",
];

/**
 * Reads an archive again: every segment in its order, page by page and record by record, and every history. What is wrong
 * is in the result; it throws only when it could not look, as the storage does or with IDENTITY_WRONG.
 */
export async function verifyWal(storage: Storage, wal: WalToVerify): Promise<VerifiedWal> {
  const { place, segmentBytes, signal, onProgress } = wal;
  const listed = await listWal(storage, wal);
  const counts = { objects: 0, bytes: 0n, plainBytes: 0n, records: 0n, undecoded: 0 };
  const problems: WalProblem[] = [];
  let sound: WalExtent[] = [];
  const work = create(WorkDoneSchema, {
    phase: "verifying WAL",
    totalItems: listed.segments.length + listed.histories.length + listed.others.length,
  });

  /** The stored bytes, counted. */
  async function* counted(key: string, tally: { bytes: bigint }): AsyncGenerator<Buffer, void> {
    for await (const chunk of (await storage.get(key, { signal })) as AsyncIterable<Buffer>) {
      tally.bytes += BigInt(chunk.length);
      yield chunk;
    }
  }

  /** Reads an object to its end, decoded where that can be; false when it is encrypted and there is no identity. */
  async function read(key: string, take: (chunk: Buffer) => void): Promise<boolean> {
    work.item = key.slice(key.lastIndexOf("/") + 1);
    onProgress(work);
    let tally = { bytes: 0n };
    const stored = Readable.from(counted(key, tally), { objectMode: false, highWaterMark: chunkSize });
    try {
      const plain = await decodeWal(stored, wal.identities, signal);
      for await (const chunk of addAbortSignal(signal, plain) as AsyncIterable<Buffer>) {
        counts.plainBytes += BigInt(chunk.length);
        take(chunk);
      }
      return true;
    } catch (error) {
      signal.throwIfAborted();
      if (!isFailure(error, "IDENTITY_MISSING")) throw asDamage(error, key);
      tally = { bytes: 0n };
      for await (const _ of counted(key, tally)) signal.throwIfAborted();
      counts.undecoded++;
      return false;
    } finally {
      stored.destroy();
      counts.objects++;
      counts.bytes += tally.bytes;
      work.doneItems++;
      work.doneBytes = counts.bytes;
    }
  }

  function note(error: unknown, key: string, run: WalExtent | undefined): void {
    signal.throwIfAborted();
    if (!isFailure(error) || !damage.some((reason) => reason === error.reason)) throw error;
    // What may not be read may be whole: nothing is lost by it.
    const isLost = error.reason !== "REPOSITORY_NOT_READABLE";
    problems.push({ key, reason: error.reason as Reason, message: error.message, run: isLost ? run : undefined });
  }

  let check: RecordCheck | undefined;
  let before: ListedSegment | undefined;
  for (const segment of listed.segments) {
    const { key, timeline, startLsn, endLsn } = segment;
    const follows = before?.timeline === timeline && before.endLsn === startLsn;
    if (!follows) check = undefined;
    before = segment;
    check ??= openRecordCheck({ systemIdentifier: place.systemIdentifier, timeline, segmentBytes });
    const own = check;
    const recordsBefore = own.records;
    let lsn = startLsn;
    try {
      const isDecoded = await read(key, (chunk) => {
        own.take(chunk, { lsn, endLsn });
        lsn += BigInt(chunk.length);
      });
      if (!isDecoded) check = undefined;
      else if (lsn - startLsn !== segmentBytes)
        fail("CONTENT_UNREADABLE", `${key} holds ${lsn - startLsn} bytes instead of ${segmentBytes}`);
      sound = addExtent(sound, { timeline, startLsn, endLsn });
    } catch (error) {
      check = undefined;
      note(error, key, { timeline, startLsn, endLsn });
    }
    counts.records += own.records - recordsBefore;
  }

  for (const { key, timeline } of listed.histories) {
    try {
      const pieces: Buffer[] = [];
      if (await read(key, (chunk) => pieces.push(chunk)))
        parseHistory(key, timeline, Buffer.concat(pieces).toString("utf8"));
    } catch (error) {
      note(error, key, undefined);
    }
  }

  const followed = new Set([...listed.segments, ...wal.expected].map(({ timeline }) => timeline));
  for (const timeline of [...followed].filter((each) => each > 1).toSorted((one, two) => one - two)) {
    if (listed.histories.some((history) => history.timeline === timeline)) continue;
    const key = walKey(place, historyName(timeline));
    const message = `${historyName(timeline)} is missing: no server goes over to timeline ${timeline} from a backup of an older one`;
    problems.push({ key, reason: "OBJECT_MISSING", message, run: undefined });
  }

  for (const key of listed.others) {
    try {
      await read(key, () => {});
    } catch (error) {
      note(error, key, undefined);
    }
  }

  const there = listed.segments.reduce<WalExtent[]>(
    (extents, { timeline, startLsn, endLsn }) => addExtent(extents, { timeline, startLsn, endLsn }),
    [],
  );
  for (const run of wal.expected.flatMap((extent) => without(extent, there)))
    problems.push({
      key: "",
      reason: "OBJECT_MISSING",
      message: `WAL from ${formatLsn(run.startLsn)} to ${formatLsn(run.endLsn)} on timeline ${run.timeline} was stored, and no object holds it`,
      run,
    });
  work.item = "";
  onProgress(work);
  return { ...counts, replaced: listed.replaced, problems, sound };
}

/** Bytes that cannot be decrypted or decompressed are damaged; a program that was killed says nothing of them. */
function asDamage(error: unknown, key: string): unknown {
  if (!isFailure(error, "PROGRAM_FAILED") || error.metadata["exitCode"] === undefined)
    return toDecodeFailure(error, key);
  return new Failure("CONTENT_UNREADABLE", `${key}: ${error.message}`, { cause: error });
}

/** The failure that the problems amount to, with the reason of the first that is damage; undefined without any. */
export function walFailure({ problems }: VerifiedWal, repository: string): Failure | undefined {
  const isDamage = ({ reason }: WalProblem) => reason !== "REPOSITORY_NOT_READABLE";
  const first = problems.find(isDamage) ?? problems[0];
  if (!first) return undefined;
  const more = problems.length === 1 ? "" : `, and ${problems.length - 1} more`;
  if (!isDamage(first))
    return new Failure(first.reason, `archived WAL in ${repository} could not be read: ${first.message}${more}`, {
      metadata: { problems: String(problems.length) },
    });
  return new Failure(first.reason, `archived WAL in ${repository} is damaged: ${first.message}${more}`, {
    hint: "what can still be reached: `coppice wal status CLUSTER`; a full backup makes what comes after it safe",
    metadata: { problems: String(problems.length) },
  });
}

function parseHistory(key: string, timeline: number, content: string): void {
  try {
    parseTimelineHistory(timeline, content);
  } catch (error) {
    throw new Failure("CONTENT_UNREADABLE", `${key} is no history of timeline ${timeline}`, { cause: error });
  }
}

/** What of a run lies in none of the extents, which are in order. */
function without(run: WalExtent, extents: readonly WalExtent[]): WalExtent[] {
  const missing: WalExtent[] = [];
  let { startLsn } = run;
  for (const extent of extents) {
    if (extent.timeline !== run.timeline || extent.endLsn <= startLsn || extent.startLsn >= run.endLsn) continue;
    if (extent.startLsn > startLsn) missing.push({ ...run, startLsn, endLsn: extent.startLsn });
    startLsn = extent.endLsn;
  }
  if (startLsn < run.endLsn) missing.push({ ...run, startLsn });
  return missing;
}
