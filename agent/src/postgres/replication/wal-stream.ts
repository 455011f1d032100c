import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { formatAddress, type ResolvedEndpoint } from "../endpoint.ts";
import type { Line } from "./line.ts";
import { toReplicationFailure } from "./replication-failure.ts";
import { textOf } from "./rows.ts";
import { formatStatusUpdate, parseServerTime } from "./status-update.ts";

/** What a server says of itself in between, and when it wants to hear. */
export interface Keepalive {
  /** The end of the server's WAL. */
  readonly serverLsn: bigint;
  readonly serverTime: Date;
  /**
   * The server asks where the receiver is. A server that shuts down asks so and does not end before everything it has
   * sent is reported as flushed: store what there is. The reply itself has gone out.
   */
  readonly isReplyWanted: boolean;
}

/** How WAL is streamed. */
export interface WalStreamOptions {
  /** Keeps WAL on the server from the reported position on. */
  readonly slot?: string;
  /** The beginning of a segment, for who wants whole segments. */
  readonly startLsn: bigint;
  readonly timeline: number;
  /** Ends the stream, and the connection with it. */
  readonly signal: AbortSignal;
  /**
   * Takes WAL that begins at that position; pieces come in order, without gaps, and are parts of the socket's buffers
   * (up to 64 KiB), to be kept or written as they are. While a promise it gives is open nothing more comes, and the
   * server is stopped; where there is nothing to wait for, it gives none.
   */
  onData(startLsn: bigint, bytes: Buffer): void | Promise<void>;
  onKeepalive?(keepalive: Keepalive): void;
  /** How often the server is told; a third of its wal_sender_timeout, 10 s at most, when left out. */
  readonly statusIntervalMs?: number;
  /** After how much silence the server counts as hung; its wal_sender_timeout, or 1 min, when left out. */
  readonly silenceMs?: number;
}

/** The timeline ended on the server, because it or its primary was promoted. */
export interface TimelineSwitch {
  readonly nextTimeline: number;
  readonly nextLsn: bigint;
}

/** A running stream. */
export interface WalStream {
  /** Everything before that position is durable: tells the server at once. Going back is ignored. */
  reportFlush(lsn: bigint): void;
  /**
   * Ends the stream and keeps the connection, for another one from there on: what the server has sent by then still comes,
   * and `ended` rejects with the reason.
   */
  stop(reason: unknown): void;
  /**
   * Settles when the server has come to the end of the timeline and everything was taken; the connection can then start
   * the next one. Rejects when the stream ends otherwise.
   */
  readonly ended: Promise<TimelineSwitch>;
}

const walHeadBytes = 25;

/** Streams WAL over the line. Failures: see ReplicationConnection. */
export async function runWalStream(
  line: Line,
  endpoint: ResolvedEndpoint,
  options: WalStreamOptions & {
    readonly statusIntervalMs: number;
    readonly silenceMs: number;
    /** The slot has no position: never used, or given up by the server. */
    readonly isSlotEmpty: boolean;
  },
): Promise<WalStream> {
  const { slot, startLsn, timeline, signal, statusIntervalMs, silenceMs } = options;
  signal.throwIfAborted();
  const started = Promise.withResolvers<void>();
  let position = startLsn;
  let takenLsn = startLsn;
  let flushedLsn = 0n;
  let isDone = false;
  let stopped: { readonly reason: unknown } | undefined;
  // WAL that came while the consumer was busy: at most what lay in one chunk of the socket.
  const waiting: { readonly lsn: bigint; readonly bytes: Buffer }[] = [];
  let delivery: Promise<void> | undefined;

  const tell = (isReplyWanted: boolean) => {
    if (!isDone) line.send("d", formatStatusUpdate({ writtenLsn: takenLsn, flushedLsn, isReplyWanted }, Date.now()));
  };
  /** Both sides say it once. */
  const sayDone = () => {
    if (!isDone) line.send("c", Buffer.alloc(0));
    isDone = true;
  };
  async function deliverRest(first: Promise<void>, release: () => void): Promise<void> {
    try {
      await first;
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        await options.onData(next.lsn, next.bytes);
        takenLsn = next.lsn + BigInt(next.bytes.length);
      }
    } catch (error) {
      line.cut(error);
      throw error;
    } finally {
      delivery = undefined;
      release();
    }
  }
  function take(bytes: Buffer): void {
    const lsn = position;
    position += BigInt(bytes.length);
    if (delivery) return void waiting.push({ lsn, bytes });
    const busy = options.onData(lsn, bytes);
    if (!busy) {
      takenLsn = position;
      return;
    }
    const end = position;
    delivery = deliverRest(
      busy.then(() => {
        takenLsn = end;
      }),
      line.hold(),
    );
    // `ended` tells of it, by the line that was cut.
    delivery.catch(() => {});
  }

  let kind = "";
  function onCopyPiece(piece: Buffer, isFirst: boolean): void {
    if (!isFirst) {
      if (kind === "w") take(piece);
      return;
    }
    kind = String.fromCharCode(piece[0] ?? 0);
    if (kind === "w") {
      const lsn = piece.readBigUInt64BE(1);
      if (lsn !== position)
        throw new Failure("INTERNAL", `the server sent WAL of ${formatLsn(lsn)} instead of ${formatLsn(position)}`);
      if (piece.length > walHeadBytes) take(piece.subarray(walHeadBytes));
    } else if (kind === "k") {
      const isReplyWanted = piece[17] === 1;
      const serverTime = parseServerTime(piece.readBigInt64BE(9));
      options.onKeepalive?.({ serverLsn: piece.readBigUInt64BE(1), serverTime, isReplyWanted });
      if (isReplyWanted) tell(false);
    }
  }

  const onAbort = () => line.cut(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  // The server falls silent when it has nothing to say, so each report asks for a reply, and none is a sign.
  const timer = setInterval(() => {
    if (!line.isHeld() && performance.now() - line.lastHeardMs() > silenceMs)
      line.cut(
        new Failure(
          "CLUSTER_UNREACHABLE",
          `the server at ${formatAddress(endpoint)} has been silent for ${silenceMs} ms`,
        ),
      );
    else tell(true);
  }, statusIntervalMs);

  const where = `${formatLsn(startLsn)} TIMELINE ${timeline}`;
  const ran = line.run(`START_REPLICATION ${slot ? `SLOT "${slot}" ` : ""}PHYSICAL ${where}`, {
    onCopyStart: () => started.resolve(),
    onCopyPiece,
    // Only a server at the end of a timeline says so first; it goes on when it has the same from here.
    onCopyDone: sayDone,
  });
  const finish = async (): Promise<TimelineSwitch> => {
    try {
      const { results, error } = await ran;
      if (error)
        throw toReplicationFailure(error, endpoint, options.isSlotEmpty ? "stream-of-empty-slot" : "stream", slot);
      await delivery;
      if (stopped) throw stopped.reason;
      const next = results.flat().find((row) => row.has("next_tli"));
      if (!next) throw new Failure("CLUSTER_UNREACHABLE", `the server at ${formatAddress(endpoint)} ended the stream`);
      return { nextTimeline: Number(textOf(next, "next_tli")), nextLsn: parseLsn(textOf(next, "next_tli_startpos")) };
    } finally {
      isDone = true;
      clearInterval(timer);
      signal.removeEventListener("abort", onAbort);
    }
  };
  const ended = finish();
  ended.then(() => started.resolve(), started.reject);
  await started.promise;

  return {
    ended,
    stop(reason) {
      if (isDone) return;
      stopped = { reason };
      sayDone();
    },
    reportFlush(lsn) {
      if (lsn <= flushedLsn) return;
      flushedLsn = lsn;
      tell(false);
    },
  };
}
