import { create } from "@bufbuild/protobuf";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { isFailure } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { openLook } from "../../../postgres/connect.ts";
import { hasSqlState } from "../../../postgres/postgres-failure.ts";
import { endSegment, type SegmentEnd } from "../../../postgres/wal/end-segment.ts";
import type { PreparedBackup } from "../prepare-backup.ts";
import { awaitArchivedWal, type NeededWal } from "./archived-wal.ts";
import type { EndProof } from "./end-proof.ts";
import { requireSealedEnd } from "./sealed-end.ts";

/** WAL that a backup waits for, and what of it is done by then, for whoever watches. */
export interface AwaitedWal {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly stopLsn: bigint;
  readonly doneBytes: bigint;
  /** As awaitArchivedWal takes it. */
  readonly end: EndProof;
}

/**
 * Has the server end the segment that the backup ends in, and waits until all of the stretch is in the repository's
 * archive; gives its files. A standby ends none: as long as something of it is missing, the position that is waited for is
 * told, so that whoever archives has the primary do it. Fails as connections do, as awaitArchivedWal, and of a standby whose
 * archive is encrypted as requireSealedEnd.
 */
export async function awaitWal(prepared: PreparedBackup, wal: AwaitedWal): Promise<StoredStream[]> {
  const { request, address, facts, server, options } = prepared;
  const { signal, onProgress, command, log } = request;
  const { timeline, startLsn, stopLsn, doneBytes, end } = wal;
  const done = { phase: "waiting for WAL", doneBytes, totalBytes: doneBytes };
  onProgress(create(WorkDoneSchema, done));
  const ended = await endOwnSegment(prepared, wal);
  const isStandby = ended === "standby";
  const awaited = isStandby ? { awaitedLsn: formatLsn(stopLsn), awaitedTimeline: timeline } : {};
  let isTold = false;
  const needed: NeededWal = {
    place: { clusterId: address.clusterId, systemIdentifier: facts.systemIdentifier },
    clusterName: command.clusterName,
    timeline,
    startLsn,
    stopLsn,
    segmentBytes: server.walSegmentBytes,
    // One that was promoted since never ends the segment that it left its timeline in.
    mayBePartial: facts.inRecovery || (ended !== "switched" && ended !== "past"),
    end,
    waitMs: options.walWaitMs,
    signal,
    onWait(item) {
      if (isStandby && !isTold) log(`the primary is asked to end the segment with ${formatLsn(stopLsn)}`);
      isTold = true;
      onProgress(create(WorkDoneSchema, { ...done, item, ...awaited }));
    },
  };
  const files = await awaitArchivedWal(request.storage, needed);
  // Nobody need do anything for it any more.
  if (isTold) onProgress(create(WorkDoneSchema, done));
  const last = files.at(-1);
  if (end.is === "bytes" && last?.encrypted) await requireSealedEnd(prepared, needed, last);
  return files;
}

/** The end of BASE_BACKUP has mostly done it. Undefined where the role may not. */
async function endOwnSegment(
  { endpoint, facts: { systemIdentifier }, request: { signal, log } }: PreparedBackup,
  { timeline, stopLsn: endLsn }: AwaitedWal,
): Promise<SegmentEnd | undefined> {
  await using connection = await openLook(endpoint, { signal });
  try {
    return await endSegment(connection, { systemIdentifier, timeline, endLsn });
  } catch (error) {
    if (!isFailure(error) || !hasSqlState(error, "privilege")) throw error;
    log(`the role may not end a segment of WAL, which is stored when it is full or old enough: ${error.message}`);
    return undefined;
  }
}
