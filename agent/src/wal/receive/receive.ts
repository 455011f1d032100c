// One thing: a stream's state, from the bytes that come to the position that the server is told; what it holds are files
// of their own.
import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { partialName, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { ReplicationConnection } from "../../postgres/replication/open-replication.ts";
import type { Keepalive, TimelineSwitch, WalStream } from "../../postgres/replication/wal-stream.ts";
import { type CommitRun, openCommitTimes } from "../content/commit-times.ts";
import type { WalExtent } from "../store/extent.ts";
import { openSegmentFile, type SegmentFile, type SegmentSnapshot } from "./segment-file.ts";
import { toSpoolFailure } from "./spool-failure.ts";

/** A segment, or what there is of one, that is to become durable under the name. */
export interface ReceivedWal extends SegmentSnapshot {
  readonly name: string;
  readonly run: WalExtent;
  /** When transactions in it ended, as far as it could be read. */
  readonly commits: readonly CommitRun[];
}

/** How WAL of one timeline is received. */
export interface ReceiveOptions {
  readonly slot: string;
  readonly timeline: number;
  /** Beginning of a segment. */
  readonly startLsn: bigint;
  readonly segmentBytes: bigint;
  /** Folder of the segments that are on their way. */
  readonly folder: string;
  /** After how long a segment that is not full is stored as far as it has come. */
  readonly maxAgeMs: number;
  /** Where the slot keeps WAL from. When that lies behind the start, the server is told to keep it from the start on. */
  readonly heldLsn?: bigint | undefined;
  /** What is archived from the start to a position, and comes again. */
  readonly archived?: { readonly endLsn: bigint; readonly sha256: string } | undefined;
  readonly signal: AbortSignal;
  /** Resolves when it is durable in the repository, and rejects only when the signal aborts. */
  store(wal: ReceivedWal): Promise<void>;
  /** Everything before the position has come. */
  onReceived(lsn: bigint): void;
  /** Nothing from the start on gets lost any more as long as the slot is there: the server keeps it, or was told to. */
  onHeld(): void;
  /** Everything from the start to the position is durable in the repository. */
  onStored(lsn: bigint): void;
  onKeepalive(keepalive: Keepalive): void;
}

/** Segments that are stored at the same time. */
const storedAtOnce = 4;
const mostSpoolBytes = 512n << 20n;
const lookEveryMs = 250;
/** How long a server that shuts down may have to wait for what cannot be stored, as it does while it is not read. */
const patienceMs = 20_000;

/**
 * Receives one timeline until the server comes to its end, and gives what follows it. What has come is stored however
 * the stream ends, save by the signal; the position that the server is told is the end of what is stored without a hole.
 * While the spool is full nothing is read, and after a while nothing is streamed, until there is room; the server keeps
 * the rest. Fails as the stream does, with SPACE_MISSING when the spool's disk takes no more, and with WAL_CONFLICT when
 * what was archived comes again and is not the same: nothing that follows it is stored then.
 */
export async function receiveTimeline(
  replication: ReplicationConnection,
  options: ReceiveOptions,
): Promise<TimelineSwitch> {
  const { timeline, segmentBytes, folder, maxAgeMs, signal } = options;
  const mostSpooled = Math.max(2, Number(mostSpoolBytes / segmentBytes));
  const fewSpooled = mostSpooled / 2;
  let stream: WalStream | undefined;
  let current: SegmentFile | undefined;
  let unstoredSinceMs: number | undefined;
  let receivedLsn = options.startLsn;
  let askedLsn = options.archived?.endLsn ?? options.startLsn;
  let storedLsn = options.startLsn;
  let partial: Promise<void> | undefined;
  let taking: Promise<void> | undefined;
  let fullSinceMs: number | undefined;
  let isPausing = false;
  let pleading: { readonly lsn: bigint; readonly sinceMs: number } | undefined;
  let { archived } = options;
  const times = openCommitTimes(timeline, segmentBytes);
  const { heldLsn = options.startLsn } = options;
  let isHeld = heldLsn <= options.startLsn;
  /** By what has come of it the server still has it; a slot that is moved to what is gone would be of no use any more. */
  function hold(): void {
    isHeld = true;
    stream?.reportFlush(options.startLsn);
    options.onHeld();
  }

  const onStored = (lsn: bigint) => {
    stream?.reportFlush(lsn);
    storedLsn = lsn;
    if (pleading && lsn >= pleading.lsn) pleading = undefined;
    options.onStored(lsn);
  };
  using queue = openStoring(options, onStored);

  async function take(lsn: bigint, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const from = lsn + BigInt(at);
      current ??= await openSegmentFile(folder, { timeline, startLsn: segmentStart(from, segmentBytes), segmentBytes });
      const room = Number(current.startLsn + segmentBytes - from);
      const piece = bytes.subarray(at, at + Math.min(room, archived ? Number(archived.endLsn - from) : room));
      times.take(piece, from);
      noteUnstored(from + BigInt(piece.length));
      await current.add(piece);
      at += piece.length;
      if (archived?.endLsn === current.endLsn) await requireSame(current, archived.sha256);
      if (piece.length === room) await complete(current);
    }
  }
  async function requireSame(segment: SegmentFile, sha256: string): Promise<void> {
    archived = undefined;
    if (segment.digest() === sha256) return onStored(segment.endLsn);
    current = undefined;
    await segment.drop();
    throw changed(segment);
  }
  async function complete(segment: SegmentFile): Promise<void> {
    current = undefined;
    unstoredSinceMs = undefined;
    const { startLsn, name } = segment;
    const snapshot = await takeWhole(segment, partial);
    const commits = times.of(startLsn, segment.endLsn);
    queue.add({ ...snapshot, name, run: { timeline, startLsn, endLsn: snapshot.endLsn }, commits }, () =>
      snapshot[Symbol.asyncDispose](),
    );
    await queue.until((spooled) => spooled < mostSpooled || isPausing);
  }
  function noteUnstored(endLsn: bigint): void {
    if (endLsn > askedLsn) unstoredSinceMs ??= performance.now();
  }
  /** Stores what there is of the present segment, unless that is done already. */
  function storePartial(): Promise<void> {
    const made = partial ?? makePartial();
    partial = made;
    const forget = () => {
      partial = undefined;
    };
    return made.finally(forget);
  }
  async function makePartial(): Promise<void> {
    const segment = current;
    if (!segment || segment.endLsn <= askedLsn) return;
    unstoredSinceMs = undefined;
    const { startLsn } = segment;
    // Before more comes.
    const commits = times.of(startLsn, segment.endLsn);
    const snapshot = await segment.snapshot();
    askedLsn = snapshot.endLsn;
    const name = partialName(timeline, snapshot.endLsn, segmentBytes);
    const run = { timeline, startLsn, endLsn: snapshot.endLsn };
    queue.add({ ...snapshot, name, run, commits }, () => snapshot[Symbol.asyncDispose]());
  }

  const cutting = new AbortController();
  const cut = (error: unknown) => cutting.abort(error);
  /** A server that is not read cannot say that it shuts down: the stream ends, and goes on once there is room. */
  function lookAtSpool(): void {
    const spooled = queue.count();
    if (spooled < fewSpooled) fullSinceMs = undefined;
    else if (spooled >= mostSpooled) fullSinceMs ??= performance.now();
    if (isPausing || fullSinceMs === undefined || performance.now() - fullSinceMs <= patienceMs) return;
    isPausing = true;
    stream?.stop(spoolFull);
    queue.wake();
  }
  const timer = setInterval(() => {
    lookAtSpool();
    if (pleading && performance.now() - pleading.sinceMs > patienceMs)
      cut(
        new Failure("REPOSITORY_UNREACHABLE", "the server waits to shut down, and what it sent cannot be stored yet"),
      );

    if (unstoredSinceMs !== undefined && performance.now() - unstoredSinceMs >= maxAgeMs)
      void storePartial().catch(cut);
  }, lookEveryMs);
  function start(): Promise<WalStream> {
    return replication.startReplication({
      slot: options.slot,
      startLsn: receivedLsn,
      timeline,
      signal: AbortSignal.any([signal, cutting.signal]),
      onData(lsn, bytes) {
        const end = lsn + BigInt(bytes.length);
        receivedLsn = end;
        options.onReceived(end);
        if (!isHeld) hold();
        // The usual piece lies within the segment: no promise for each of them.
        if (current && !archived && end < current.startLsn + segmentBytes) {
          noteUnstored(end);
          times.take(bytes, lsn);
          return current.add(bytes);
        }
        return (taking = take(lsn, bytes));
      },
      onKeepalive(keepalive) {
        options.onKeepalive(keepalive);
        const { isReplyWanted, serverLsn } = keepalive;
        if (!isReplyWanted || current?.endLsn !== serverLsn || storedLsn >= serverLsn) return;
        // A server that shuts down waits until everything is stored, but not for ever: its slot keeps the rest.
        pleading ??= { lsn: serverLsn, sinceMs: performance.now() };
        void storePartial().catch(cut);
      },
    });
  }
  try {
    for (;;) {
      stream = await start();
      // Stored while the answer was on its way, or before it went on.
      if (storedLsn > options.startLsn) stream.reportFlush(storedLsn);
      else if (heldLsn <= options.startLsn) options.onHeld();
      else if (isHeld) stream.reportFlush(options.startLsn);
      try {
        return await stream.ended;
      } catch (error) {
        if (error !== spoolFull) throw error;
      }
      await queue.until((spooled) => spooled < fewSpooled);
      fullSinceMs = undefined;
      isPausing = false;
    }
  } catch (error) {
    throw toSpoolFailure(error, folder);
  } finally {
    clearInterval(timer);
    // Its error is the stream's, and so is that of a disk that takes no more.
    await taking?.catch(() => {});
    if (!signal.aborted) {
      // What has come is all that is left of a server that is lost.
      await storePartial().catch(() => {});
      await queue.until((spooled) => spooled === 0);
    }
    stream = undefined;
    await current?.drop();
  }
}

/** Why a stream ends that goes on later. */
const spoolFull = new Error("the spool is full");

/** What there is of a segment; its file is gone, also from a disk that takes no more. */
async function takeWhole(
  segment: SegmentFile,
  partial: Promise<void> | undefined,
): Promise<SegmentSnapshot & AsyncDisposable> {
  try {
    await partial;
    return await segment.snapshot();
  } finally {
    await segment.drop();
  }
}

function changed({ name, endLsn }: SegmentFile): Failure {
  return new Failure(
    "WAL_CONFLICT",
    `the server gives other bytes of ${name} before ${formatLsn(endLsn)} than are archived: it is a copy of the server that was archived, or was set back`,
    {
      hint: "archive that server; or this one into another repository, coppice wal setup CLUSTER --to REPOSITORY, and take a full backup there; nothing was overwritten",
      metadata: { segment: name },
    },
  );
}

interface Storing extends Disposable {
  add(wal: ReceivedWal, release: () => PromiseLike<void>): void;
  /** How many are not stored. */
  count(): number;
  /** Resolves when that is so of how many are not stored, or the signal aborts. */
  until(isSo: (count: number) => boolean): Promise<void>;
  /** Has it looked at anew by who waits. */
  wake(): void;
}

/** Stores several at once and tells how far everything is stored, in their order. */
function openStoring(options: ReceiveOptions, onStored: (lsn: bigint) => void): Storing {
  const { signal } = options;
  const entries: { readonly endLsn: bigint; isStored: boolean }[] = [];
  const waiting: (() => void)[] = [];
  let running = 0;
  // Until one is stored the server may be another one, and what follows has nothing before it to be compared with.
  let isProven = false;
  let changed = Promise.withResolvers<void>();
  const pump = () => {
    for (; running < (isProven ? storedAtOnce : 1) && waiting.length > 0; running++) waiting.shift()?.();
  };
  async function run(wal: ReceivedWal, entry: { isStored: boolean }, release: () => PromiseLike<void>): Promise<void> {
    try {
      await options.store(wal);
      entry.isStored = true;
      isProven = true;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      running--;
      await release();
    }
    let done: bigint | undefined;
    while (entries[0]?.isStored) done = entries.shift()?.endLsn;
    if (done !== undefined) onStored(done);
    wake();
    pump();
  }
  const wake = () => {
    changed.resolve();
    changed = Promise.withResolvers();
  };
  signal.addEventListener("abort", wake, { once: true });
  return {
    add(wal, release) {
      const entry = { endLsn: wal.run.endLsn, isStored: false };
      entries.push(entry);
      waiting.push(() => void run(wal, entry, release));
      pump();
    },
    count: () => entries.length,
    async until(isSo) {
      while (!isSo(entries.length) && !signal.aborted) await changed.promise;
    },
    wake,
    [Symbol.dispose]: () => signal.removeEventListener("abort", wake),
  };
}
