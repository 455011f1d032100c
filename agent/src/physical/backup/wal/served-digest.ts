import { formatDuration } from "@coppice/proto/kit/duration";
import { Failure, isFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import { formatAddress } from "../../../postgres/endpoint.ts";
import { openReplication, type ReplicationConnection } from "../../../postgres/replication/open-replication.ts";
import type { PreparedBackup } from "../prepare-backup.ts";
import { requireSystem } from "../require-same-server.ts";
import { openSegmentDigest } from "../../../postgres/wal/segment-digest.ts";

/** The beginning of a segment, that a standby is asked for. */
export interface ServedWal {
  readonly timeline: number;
  /** First position after it; the byte before lies in the segment. */
  readonly endLsn: bigint;
  readonly segmentBytes: bigint;
  /** Longest time without any more of it. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

const watchMs = 500;
const embed = "take the backup with its WAL in it: --wal embedded";

/**
 * Digest of a segment's beginning, as openSegmentDigest makes it, by the bytes that a standby has received, whether it has
 * replayed them or not; nothing of them is kept. Fails with WAL_REMOVED, with WAL_MISSING where the standby does not come
 * that far, with TIMELINE_CHANGED, and as startReplication.
 */
export async function servedDigest(replication: ReplicationConnection, wal: ServedWal): Promise<string> {
  const { timeline, endLsn, segmentBytes, waitMs, signal } = wal;
  const startLsn = segmentStart(endLsn - 1n, segmentBytes);
  const digest = openSegmentDigest({ bytes: endLsn - startLsn, segmentBytes });
  const full = Promise.withResolvers<void>();
  using streaming = linkSignals(signal);
  let newestMs = performance.now();
  const watch = setInterval(() => {
    if (performance.now() - newestMs > waitMs) streaming.abort(tooSlow(replication, wal));
  }, watchMs);
  try {
    const stream = await replication.startReplication({
      startLsn,
      timeline,
      signal: streaming.signal,
      onData(_lsn, bytes) {
        newestMs = performance.now();
        digest.take(bytes);
        if (digest.isFull) full.resolve();
      },
    });
    await Promise.race([full.promise, stream.ended]);
    stream.stop(new Failure("CANCELLED", "all WAL that is needed has come"));
    await stream.ended.catch(() => {});
  } catch (error) {
    if (!isFailure(error, "WAL_REMOVED")) throw error;
    const name = segmentName(timeline, startLsn, segmentBytes);
    throw new Failure("WAL_REMOVED", `the standby has removed ${name} before the archive was compared with it`, {
      hint: `${embed}; or have the standby keep WAL for longer: wal_keep_size`,
      cause: error,
    });
  } finally {
    clearInterval(watch);
  }
  const sha256 = digest.finish();
  if (sha256 !== undefined) return sha256;
  throw new Failure(
    "TIMELINE_CHANGED",
    `the standby has left timeline ${timeline} before ${formatLsn(endLsn)}, up to where the archive is compared with it`,
  );
}

/** The same by a connection of its own, to the very server that is backed up. Fails as openReplication, too. */
export async function standbyDigest(
  { endpoint, facts, server, options, request: { signal } }: PreparedBackup,
  { timeline, endLsn }: Pick<ServedWal, "timeline" | "endLsn">,
): Promise<string> {
  await using replication = await openReplication(endpoint, { signal });
  requireSystem(endpoint, await replication.identify(), facts.systemIdentifier);
  const { walSegmentBytes: segmentBytes } = server;
  return await servedDigest(replication, { timeline, endLsn, segmentBytes, waitMs: options.walWaitMs, signal });
}

function tooSlow({ endpoint }: ReplicationConnection, { timeline, endLsn, waitMs }: ServedWal): Failure {
  return new Failure(
    "WAL_MISSING",
    `the standby at ${formatAddress(endpoint)} lacks WAL up to ${formatLsn(endLsn)} on timeline ${timeline}, which the archive is compared with, and no more of it has come for ${formatDuration(waitMs)}`,
    {
      hint: `it lags, or follows a copy of the server that was archived: see SELECT * FROM pg_stat_wal_receiver there; where it only lags, ${embed}`,
    },
  );
}
