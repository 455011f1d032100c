// One thing: the wait for WAL in an archive, and the look into it.
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { formatDuration } from "@coppice/proto/kit/duration";
import { fail, Failure, isFailure } from "@coppice/proto/kit/failure";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { sleep } from "@coppice/proto/kit/sleep";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { historyName, segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { WalStretch } from "@coppice/proto/kit/wal/archived-wal";
import { openRecordCheck, type RecordCheck } from "../../../postgres/wal/check-records.ts";
import { isEndRecord } from "../../../postgres/wal/end-record.ts";
import { walKey, type WalPlace } from "../../../repository/layout.ts";
import { findSegment } from "../../../repository/wal/find-segment.ts";
import type { Storage } from "../../../storage/storage.ts";
import type { EndProof } from "./end-proof.ts";
import { foreignStandby } from "./foreign-standby.ts";
import { readArchived } from "./read-archived.ts";
import { openSegmentDigest, type SegmentDigest } from "../../../postgres/wal/segment-digest.ts";

/** WAL that has to be in a repository's archive before a backup counts. */
export interface NeededWal extends WalStretch {
  readonly place: WalPlace;
  /** Its last segment may come as one that is not full, because nobody here can end it. */
  readonly mayBePartial: boolean;
  /** What shows, at the end of it, that it is the server's own. */
  readonly end: EndProof;
  /** For people: of which cluster. */
  readonly clusterName: string;
  /** Longest time without any more of it. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** Told what is waited for, once for each file. */
  readonly onWait: (name: string) => void;
}

const pollMs = 500;

/** Takes the plain bytes of a segment, the first ones first. */
type Take = (plain: Buffer) => void;

/** A segment that is stored, whole or, where that is enough, in part. */
async function readSegment(
  storage: Storage,
  wal: NeededWal,
  segment: string,
  take: Take,
): Promise<StoredStream | undefined> {
  const whole = await readArchived(storage, { ...wal, name: segment }, take);
  const isLast = segment === segmentName(wal.timeline, wal.stopLsn - 1n, wal.segmentBytes);
  if (whole || !isLast || !wal.mayBePartial) return whole;
  const { part } = await findSegment(storage, walKey(wal.place, segment), wal.signal);
  if (!part || part.endLsn < wal.stopLsn) return undefined;
  return await readArchived(storage, { ...wal, name: part.key.slice(part.key.lastIndexOf("/") + 1) }, take);
}

async function readHistory(storage: Storage, wal: NeededWal, name: string): Promise<StoredStream | undefined> {
  const pieces: Buffer[] = [];
  const file = await readArchived(storage, { ...wal, name }, (piece) => pieces.push(piece));
  if (file && !file.encrypted) parseTimelineHistory(wal.timeline, Buffer.concat(pieces).toString("utf8"));
  return file;
}

/** Looks into the segments of a stretch in their order, as far as they are not encrypted. */
function openLook(wal: NeededWal) {
  const { place, timeline, segmentBytes, stopLsn, end, clusterName } = wal;
  const { systemIdentifier } = place;
  const lastLsn = segmentStart(stopLsn - 1n, segmentBytes);
  let check: RecordCheck | undefined;
  let last: SegmentDigest | undefined;

  return {
    /** Reads the segment that begins there, if there is one. */
    async through(
      startLsn: bigint,
      read: (take: Take) => Promise<StoredStream | undefined>,
    ): Promise<StoredStream | undefined> {
      const before = check;
      const own = check ?? openRecordCheck({ systemIdentifier, timeline, segmentBytes });
      // Behind one that was read in part only, which is read once more, the check begins anew.
      check = undefined;
      last =
        end.is === "bytes" && startLsn === lastLsn
          ? openSegmentDigest({ bytes: stopLsn - startLsn, segmentBytes })
          : undefined;
      let lsn = startLsn;
      const file = await read((piece) => {
        last?.take(piece);
        own.take(piece, { lsn, endLsn: stopLsn });
        lsn += BigInt(piece.length);
      });
      if (file === undefined) check = before;
      if (file === undefined || file.encrypted) return file;
      const plainBytes = lsn - startLsn;
      if (plainBytes !== segmentBytes)
        fail("CONTENT_UNREADABLE", `the segment at ${formatLsn(startLsn)} has ${plainBytes} bytes`);
      check = own;
      return file;
    },
    /** Fails with WAL_FOREIGN unless the last segment is the server's own; of one that is encrypted it says nothing. */
    finish() {
      if (!check) return;
      if (end.is === "bytes") {
        if (last?.finish() === end.sha256) return;
        throw foreignStandby({ timeline, endLsn: stopLsn, clusterName });
      }
      check.finish(stopLsn, { atRecord: true });
      if (check.last?.endLsn === stopLsn && isEndRecord(check.last, end)) return;
      fail(
        "WAL_FOREIGN",
        `the archive holds other WAL up to ${formatLsn(stopLsn)} on timeline ${timeline} than the server has written`,
        {
          hint: `the server was set back, or is a copy of the one that was archived: coppice wal status ${clusterName}; or take the backup with its WAL in it: --wal embedded`,
        },
      );
    },
  };
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
export async function awaitFile<T>(wal: NeededWal, name: string, read: () => Promise<T | undefined>): Promise<T> {
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
 * Waits until every file of the stretch lies in the archive on its timeline, reads each to its end and, where it is not
 * encrypted, looks into it: what comes back is what is there, in the order of WAL. Fails with WAL_MISSING, naming the
 * file, with CONTENT_UNREADABLE for one that is damaged, with WAL_FOREIGN for WAL of another life of the server, or as the
 * storage does.
 */
export async function awaitArchivedWal(storage: Storage, wal: NeededWal): Promise<StoredStream[]> {
  const { timeline, startLsn, stopLsn, segmentBytes } = wal;
  if (stopLsn <= startLsn) fail("INTERNAL", "a backup that ends before it begins");
  const files: StoredStream[] = [];
  if (timeline > 1) {
    const name = historyName(timeline);
    files.push(await awaitFile(wal, name, () => readHistory(storage, wal, name)));
  }
  const look = openLook(wal);
  for (let lsn = segmentStart(startLsn, segmentBytes); lsn < stopLsn; lsn += segmentBytes) {
    const name = segmentName(timeline, lsn, segmentBytes);
    const read = () => look.through(lsn, (take) => readSegment(storage, wal, name, take));
    files.push(await awaitFile(wal, name, () => read().catch((error: unknown) => damaged(error, wal, name))));
  }
  look.finish();
  return files;
}

/** What is wrong with a file of the archive, and what to do about it. */
function damaged(error: unknown, { clusterName }: NeededWal, name: string): never {
  if (!isFailure(error, "CONTENT_UNREADABLE")) throw error;
  throw new Failure("CONTENT_UNREADABLE", `${name} is damaged in the archive: ${error.message}`, {
    hint: `see what else is: coppice wal verify ${clusterName}; and take the backup with its WAL in it: coppice backup create ${clusterName} --kind full --wal embedded`,
    metadata: { segment: name },
    cause: error,
  });
}
