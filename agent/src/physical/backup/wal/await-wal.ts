import { create } from "@bufbuild/protobuf";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import type { StoredStream } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import type { EndRecord } from "../../../postgres/wal/end-record.ts";
import { awaitArchivedWal } from "./archived-wal.ts";
import { endSegment } from "./end-segment.ts";
import type { PreparedBackup } from "../prepare-backup.ts";

/** WAL that a backup waits for, and what of it is done by then, for whoever watches. */
export interface AwaitedWal {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly stopLsn: bigint;
  readonly doneBytes: bigint;
  /** As awaitArchivedWal takes it. */
  readonly endRecord: EndRecord | undefined;
}

/**
 * Has the server end the segment that the backup ends in, and waits until all of the stretch is in the repository's
 * archive; gives its files. Fails as connections do, and as awaitArchivedWal.
 */
export async function awaitWal(prepared: PreparedBackup, wal: AwaitedWal): Promise<StoredStream[]> {
  const { request, address, facts, server, options } = prepared;
  const { signal, onProgress, command } = request;
  const { timeline, startLsn, stopLsn, doneBytes, endRecord } = wal;
  const wait = (item: string) =>
    onProgress(create(WorkDoneSchema, { phase: "waiting for WAL", item, doneBytes, totalBytes: doneBytes }));
  wait("");
  const isEnded = await endSegment(prepared, stopLsn);
  return await awaitArchivedWal(request.storage, {
    place: { clusterId: address.clusterId, systemIdentifier: facts.systemIdentifier },
    clusterName: command.clusterName,
    timeline,
    startLsn,
    stopLsn,
    segmentBytes: server.walSegmentBytes,
    // One that was promoted since never ends the segment that it left its timeline in.
    mayBePartial: facts.inRecovery || !isEnded,
    endRecord,
    waitMs: options.walWaitMs,
    signal,
    onWait: wait,
  });
}
