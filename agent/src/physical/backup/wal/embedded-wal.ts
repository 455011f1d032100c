import { PassThrough } from "node:stream";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { Failure } from "@coppice/proto/kit/failure";
import { linkSignals, raceSignal } from "@coppice/proto/kit/race";
import { historyName, segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { openReplication } from "../../../postgres/replication/open-replication.ts";
import type { WalStream } from "../../../postgres/replication/wal-stream.ts";
import { endBytes, formatFileHeader, paddingOf } from "../../tar/header.ts";
import type { PreparedBackup } from "../prepare-backup.ts";
import { requireSameServer } from "../require-same-server.ts";
import { storeEncoded } from "../store-encoded.ts";

/** The WAL of a backup on its way into the backup itself. */
export interface EmbeddedWal extends AsyncDisposable {
  /** Aborted, with the reason, when no more WAL comes: then the backup cannot be finished. */
  readonly lost: AbortSignal;
  /** Begins to store WAL, from the segment that holds that position on. */
  start(lsn: bigint, timeline: number): Promise<void>;
  /** Waits for everything before that position, ends the archive and gives what is stored. */
  finish(stopLsn: bigint): Promise<StoredStream>;
}

const slotIdLength = 40;
const aheadBytes = 1024 * 1024;
const zeroBytes = 1024 * 1024;
const fileMode = 0o600;

/** Segments as files of a tar, written as the server sends them. */
function openWalTar(segmentBytes: bigint) {
  const out = new PassThrough({ highWaterMark: aheadBytes });
  // Who waits for the stored stream is told.
  out.on("error", () => {});
  let position = 0n;
  let timeline = 1;

  /** Undefined when more is wanted; a stream that is given up settles it too, and its reader says why. */
  const put = (bytes: Buffer): Promise<void> | undefined => {
    if (out.destroyed || out.write(bytes)) return undefined;
    return new Promise((resolve) => {
      const settle = () => {
        out.off("drain", settle).off("close", settle);
        resolve();
      };
      out.once("drain", settle).once("close", settle);
    });
  };
  const putFile = async (name: string, content: Buffer) => {
    await put(formatFileHeader({ name, sizeBytes: content.length, mode: fileMode, modified: new Date() }));
    await put(Buffer.concat([content, Buffer.alloc(paddingOf(content.length))]));
  };
  const leftInSegment = () => Number(segmentBytes - (position % segmentBytes));

  async function putWal(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      if (position % segmentBytes === 0n) {
        const name = segmentName(timeline, position, segmentBytes);
        const sizeBytes = Number(segmentBytes);
        await put(formatFileHeader({ name, sizeBytes, mode: fileMode, modified: new Date() }));
      }
      const piece = bytes.subarray(at, at + leftInSegment());
      at += piece.length;
      position += BigInt(piece.length);
      await put(piece);
    }
  }

  return {
    out,
    putFile,
    putWal,
    position: () => position,
    begin(lsn: bigint, onTimeline: number) {
      position = lsn;
      timeline = onTimeline;
    },
    async end() {
      while (position % segmentBytes !== 0n) await putWal(Buffer.alloc(Math.min(zeroBytes, leftInSegment())));
      await put(Buffer.alloc(endBytes));
      out.end();
    },
  };
}

/**
 * Opens a second connection with a temporary slot, which keeps the server's WAL from before the backup on. Its own,
 * because an error of the server on the backup's connection, as for pages that failed their checksums, drops the slots of
 * that one. Fails as openReplication, requireSameServer and createSlot.
 */
export async function openEmbeddedWal(prepared: PreparedBackup): Promise<EmbeddedWal> {
  const { request, endpoint, options, prefix, recipients, server, address } = prepared;
  const { storage, log } = request;
  const streaming = linkSignals(request.signal);
  const lost = new AbortController();
  const replication = await openReplication(endpoint, { signal: streaming.signal });
  const slot = `coppice_${address.backupId}`
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]/g, "_")
    .slice(0, slotIdLength);
  try {
    await requireSameServer(replication, prepared);
    await replication.createSlot(slot, { temporary: true, reserveWal: true });
  } catch (error) {
    await replication[Symbol.asyncDispose]();
    throw error;
  }
  const tar = openWalTar(server.walSegmentBytes);
  let storing: Promise<StoredStream> | undefined;
  let taken = Promise.withResolvers<void>();
  let putting: Promise<void> = Promise.resolve();
  let isEnough = false;
  const lose = (reason: unknown) => lost.abort(reason);

  async function stream(startLsn: bigint, timeline: number): Promise<void> {
    // What comes first may come before it is given.
    let wal: WalStream | undefined = undefined;
    wal = await replication.startReplication({
      slot,
      startLsn,
      timeline,
      signal: streaming.signal,
      async onData(_start, bytes) {
        // What had come before the line was cut comes all the same.
        if (isEnough) return;
        putting = tar.putWal(bytes);
        await putting;
        // The server may drop what is behind: with this backup all of it is lost anyway.
        wal?.reportFlush(tar.position());
        taken.resolve();
        taken = Promise.withResolvers();
      },
    });
    wal.ended.then(
      ({ nextTimeline }) =>
        lose(new Failure("TIMELINE_CHANGED", `the server went over to timeline ${nextTimeline} during the backup`)),
      (error: unknown) => {
        if (!isEnough) lose(error);
      },
    );
  }

  return {
    lost: lost.signal,
    async start(lsn, timeline) {
      const startLsn = segmentStart(lsn, server.walSegmentBytes);
      tar.begin(startLsn, timeline);
      // It comes beside the archives, whose server has the cores.
      const encoding = { codec: options.codec, level: 1, recipients };
      const signal = request.signal;
      storing = storeEncoded(storage, { prefix, name: "wal.tar", source: tar.out, ...encoding, signal, log });
      storing.catch(lose);
      if (timeline > 1) {
        const { content } = await replication.timelineHistory(timeline);
        await tar.putFile(historyName(timeline), content);
      }
      await stream(startLsn, timeline);
    },
    async finish(stopLsn) {
      while (tar.position() < stopLsn) await raceSignal(taken.promise, lost.signal);
      isEnough = true;
      streaming.abort(new Failure("CANCELLED", "all WAL that is needed has come"));
      await putting;
      await tar.end();
      if (!storing) throw new Error("the WAL was never begun");
      return await storing;
    },
    async [Symbol.asyncDispose]() {
      streaming.abort(new Failure("CANCELLED", "the backup has ended"));
      tar.out.destroy();
      await replication[Symbol.asyncDispose]();
      await Promise.allSettled([storing]);
      streaming[Symbol.dispose]();
    },
  };
}
