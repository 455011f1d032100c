import { text } from "node:stream/consumers";
import { addAbortSignal } from "node:stream";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { type PathPiece, timelinePath } from "@coppice/proto/kit/recovery/timeline-path";
import { historyName, segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { openRecordCheck } from "../../postgres/wal/check-records.ts";
import type { WalPlace } from "../../repository/layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { damagedWalHint, toDecodeFailure } from "../store/wal-codec.ts";
import { readWal } from "./fetch-wal.ts";
import { requireWal, timelinesOf } from "./require-wal.ts";

/** WAL that is to be replayed. */
export interface WalToReplay {
  readonly place: WalPlace;
  readonly segmentBytes: bigint;
  /** Where recovery begins. */
  readonly startLsn: bigint;
  /** Timeline of the backup, and the one that is followed. */
  readonly timelines: { readonly first: number; readonly last: number };
  /** Position up to which the plan says that there is WAL. */
  readonly endLsn: bigint;
  /** Whether recovery is to go on to the end of it: nothing but the records tells a server where that is. */
  readonly isToEnd: boolean;
  /** Lines of an age identity file, for encrypted WAL. */
  readonly identities: string | undefined;
  readonly signal: AbortSignal;
}

/** So much before the end is looked for beforehand: what lacks more than that is seen by where recovery ends. */
const lookedForBytes = 32n << 20n;

/**
 * Looks whether the WAL that a plan promised is there still, and gives the position that recovery has to reach: where it
 * is to go on to the end, that of the last whole record, every record before it read. Fails with WAL_MISSING, also where
 * the history of the timeline is not archived; with CONTENT_UNREADABLE where a server would take a damaged record for the
 * end; with IDENTITY_WRONG or IDENTITY_MISSING where the first or the last of it cannot be decrypted; and as readWal and the storage do.
 */
export async function seeWalEnd(storage: Storage, wal: WalToReplay): Promise<bigint> {
  const { startLsn, endLsn } = wal;
  const path = await readPath(storage, wal);
  const fromLsn = endLsn - lookedForBytes > startLsn ? endLsn - lookedForBytes : startLsn;
  await requireWal(storage, { ...wal, path, fromLsn });
  // The recipients of an archive may change on the way.
  for (const lsn of [startLsn, endLsn - 1n]) await requireReadable(storage, wal, { path, lsn });
  return wal.isToEnd ? await findLastRecord(storage, wal, path) : endLsn;
}

/** A server that waits for WAL which nobody can decrypt would wait for long, with everything unpacked already. */
async function requireReadable(
  storage: Storage,
  { place, segmentBytes, identities, signal }: WalToReplay,
  { path, lsn }: { path: readonly PathPiece[]; lsn: bigint },
): Promise<void> {
  const startLsn = segmentStart(lsn, segmentBytes);
  for (const timeline of timelinesOf(path, startLsn, segmentBytes)) {
    const name = segmentName(timeline, startLsn, segmentBytes);
    const plain = await readStored(storage, { place, name, identities, signal });
    if (!plain) continue;
    try {
      for await (const _chunk of addAbortSignal(signal, plain) as AsyncIterable<Buffer>) break;
    } catch (error) {
      signal.throwIfAborted();
      throw asDamage(toDecodeFailure(error, name), name);
    }
    return;
  }
}

async function readPath(
  storage: Storage,
  { place, timelines: { first, last }, identities, signal }: WalToReplay,
): Promise<PathPiece[]> {
  if (last <= first) return [{ timeline: first, startLsn: 0n, endLsn: undefined }];
  const name = historyName(last);
  const stored = await readWal(storage, { place, name, identities, signal }).catch((error: unknown) => {
    if (isFailure(error, "OBJECT_MISSING")) return undefined;
    throw error;
  });
  if (!stored)
    return fail("WAL_MISSING", `${storage.name} lacks ${name}, without which no server follows timeline ${last}`, {
      hint: `put ${name} back, from the pg_wal of a server on that timeline for example; backups that were taken on timeline ${last} itself do not need it`,
    });
  return timelinePath([parseTimelineHistory(last, await text(stored))], last);
}

/** Ever more segments are read, until a record ends in them: one may be longer than a segment. */
async function findLastRecord(storage: Storage, wal: WalToReplay, path: readonly PathPiece[]): Promise<bigint> {
  const { segmentBytes, startLsn, endLsn } = wal;
  const first = segmentStart(startLsn, segmentBytes);
  for (let segments = 2n; ; segments *= 4n) {
    const from = segmentStart(endLsn - 1n, segmentBytes) - (segments - 1n) * segmentBytes;
    const beginLsn = from > first ? from : first;
    const lastEnd = await readRecords(storage, wal, { path, beginLsn });
    if (lastEnd !== undefined) return lastEnd;
    if (beginLsn === first) return startLsn;
  }
}

async function readRecords(
  storage: Storage,
  { place, segmentBytes, timelines, endLsn, identities, signal }: WalToReplay,
  { path, beginLsn }: { path: readonly PathPiece[]; beginLsn: bigint },
): Promise<bigint | undefined> {
  const { systemIdentifier } = place;
  const check = openRecordCheck({ systemIdentifier, timeline: timelines.last, segmentBytes });
  for (let startLsn = beginLsn; startLsn < endLsn; startLsn += segmentBytes) {
    let name = "";
    let plain: Awaited<ReturnType<typeof readWal>>;
    for (const timeline of timelinesOf(path, startLsn, segmentBytes)) {
      name = segmentName(timeline, startLsn, segmentBytes);
      plain = await readStored(storage, { place, name, identities, signal });
      if (plain) break;
    }
    if (!plain) return fail("WAL_MISSING", `${storage.name} lacks ${name}, which was there a moment ago`);
    let lsn = startLsn;
    try {
      for await (const chunk of addAbortSignal(signal, plain) as AsyncIterable<Buffer>) {
        check.take(chunk, { lsn, endLsn });
        lsn += BigInt(chunk.length);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw asDamage(toDecodeFailure(error, name), name);
    }
  }
  return check.lastEndLsn;
}

async function readStored(storage: Storage, wal: Parameters<typeof readWal>[1]) {
  try {
    return await readWal(storage, wal);
  } catch (error) {
    if (isFailure(error, "OBJECT_MISSING")) return undefined;
    throw error;
  }
}

/** Bytes that cannot be decrypted are damaged too; a program that was killed says nothing of them. */
function asDamage(error: unknown, name: string): unknown {
  const isRefused = isFailure(error, "PROGRAM_FAILED") && error.metadata["exitCode"] !== undefined;
  if (!isRefused && !isFailure(error, "CONTENT_UNREADABLE")) return error;
  return new Failure("CONTENT_UNREADABLE", `a server would take ${name} for the end of WAL: ${error.message}`, {
    hint: damagedWalHint,
    cause: error,
  });
}
