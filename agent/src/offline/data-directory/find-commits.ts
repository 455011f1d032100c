import { type Reach, reaches } from "@coppice/proto/kit/recovery/reach";
import type { CommitSpan, RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import type { Target } from "@coppice/proto/kit/recovery/target";
import { greatest, least } from "@coppice/proto/kit/recovery/time-facts";
import { type PathPiece, pieceAt } from "@coppice/proto/kit/recovery/timeline-path";
import { fail } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { walKey, type WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { openRecordReader, type TransactionEnd, type RecordReader } from "../../postgres/wal/record-reader.ts";
import { readWal } from "../../wal/fetch/fetch-wal.ts";
import { toDecodeFailure } from "../../wal/store/wal-codec.ts";

/** How archived WAL is read. */
export interface WalSource {
  readonly storage: Storage;
  readonly place: WalPlace;
  readonly identities: string | undefined;
  readonly signal: AbortSignal;
  /** Called with the name of each segment that is about to be read. */
  readonly onSegment: (name: string) => void;
}

/**
 * The commits that decide how a time is reached: those between the backup before it and the first one after it, read in
 * the archived WAL itself, which no catalog has told of. A segment is one span, except that the first later commit has one
 * of its own, so that its place is exact. Fails with CONTENT_UNREADABLE, IDENTITY_MISSING, or as the storage does.
 */
export async function findCommits(
  input: RecoveryInput,
  target: Target & { readonly kind: "time" },
  source: WalSource,
): Promise<CommitSpan[]> {
  const lastUs = target.exclusive === true ? target.timeUs - 1n : target.timeUs;
  const spans: CommitSpan[] = [];
  const archived = reaches(input).filter(
    ({ repository, timeline }) =>
      repository !== undefined && (target.timeline === undefined || target.timeline === timeline),
  );
  for (const reach of archived) {
    // Along the newest timeline that leads there is how the planner goes, unless another one was written at that time.
    if (await readReach(reach, { segmentBytes: input.segmentBytes, lastUs, source, spans })) break;
  }
  return spans;
}

interface Reading {
  readonly segmentBytes: bigint;
  readonly lastUs: bigint;
  readonly source: WalSource;
  readonly spans: CommitSpan[];
}

/**
 * Adds what the WAL says from the newest backup before the time on; whether a commit after the time was found before any
 * timeline was left: then others have nothing to say.
 */
async function readReach(reach: Reach, { segmentBytes, lastUs, source, spans }: Reading): Promise<boolean> {
  const before = reach.bases.map(({ backup }) => backup).filter(({ stopTimeUs }) => stopTimeUs <= lastUs);
  if (before.length === 0) return false;
  let ends: TransactionEnd[] = [];
  // One reader for all of it: records go on from one segment to the next.
  const reader = openRecordReader(segmentBytes, { onEnd: (end) => ends.push(end) });
  const firstLsn = before.map(({ stopLsn }) => stopLsn).reduce((most, lsn) => (lsn > most ? lsn : most));
  let startLsn = firstLsn;
  while (startLsn < reach.endLsn) {
    const next = segmentStart(startLsn, segmentBytes) + segmentBytes;
    const endLsn = next < reach.endLsn ? next : reach.endLsn;
    await readSegment(reader, { path: reach.path, lsn: startLsn, segmentBytes, source });
    const found = ends.filter((end) => end.endLsn > startLsn && end.endLsn <= endLsn);
    const later = found.find(({ timeUs }) => timeUs > lastUs);
    spans.push(...toSpans(found, { path: reach.path, startLsn, endLsn, later }));
    if (later) return pieceAt(reach.path, later.startLsn)?.timeline === pieceAt(reach.path, firstLsn)?.timeline;
    ends = [];
    startLsn = next;
  }
  return false;
}

/** Reads the segment of that position, of the newest timeline on the path that has it: it holds a copy of its parent's. */
async function readSegment(
  reader: RecordReader,
  {
    path,
    lsn: position,
    segmentBytes,
    source,
  }: { path: readonly PathPiece[]; lsn: bigint; segmentBytes: bigint; source: WalSource },
): Promise<void> {
  const { storage, place, identities, signal, onSegment } = source;
  const start = segmentStart(position, segmentBytes);
  for (const { timeline, startLsn } of path.toReversed()) {
    if (segmentStart(startLsn, segmentBytes) > start) continue;
    const name = segmentName(timeline, start, segmentBytes);
    const plain = await readWal(storage, { place, name, identities, signal });
    if (!plain) continue;
    onSegment(name);
    try {
      let lsn = start;
      for await (const chunk of plain as AsyncIterable<Buffer>) {
        reader.take(chunk, lsn);
        lsn += BigInt(chunk.length);
      }
      return;
    } catch (error) {
      signal.throwIfAborted();
      throw toDecodeFailure(error, walKey(place, name));
    }
  }
  fail("WAL_MISSING", `the segment of ${formatLsn(position)} was listed, and is not there any more`);
}

/** The transactions of a stretch as spans: each lies on one timeline, and the later one has its own. */
function toSpans(
  ends: readonly TransactionEnd[],
  {
    path,
    startLsn,
    endLsn,
    later,
  }: { path: readonly PathPiece[]; startLsn: bigint; endLsn: bigint; later: TransactionEnd | undefined },
): CommitSpan[] {
  const cuts = later === undefined ? [] : [later.startLsn, later.endLsn];
  const bounds = [...path.map((piece) => piece.startLsn), ...cuts].filter((lsn) => lsn > startLsn && lsn < endLsn);
  const edges = [startLsn, ...bounds.toSorted((one, other) => (one < other ? -1 : 1)), endLsn];
  return edges.slice(1).flatMap((to, index) => {
    const from = edges[index] ?? startLsn;
    const timeline = pieceAt(path, from)?.timeline;
    if (timeline === undefined || from === to) return [];
    const times = ends.filter((end) => end.endLsn > from && end.endLsn <= to).map(({ timeUs }) => timeUs);
    const [earliestUs, latestUs] = [least(times), greatest(times)];
    const known = earliestUs === undefined || latestUs === undefined ? {} : { times: { earliestUs, latestUs } };
    return [{ timeline, startLsn: from, endLsn: to, ...known }];
  });
}
