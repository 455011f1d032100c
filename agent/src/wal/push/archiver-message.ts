import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type WalArchiver, WalArchiverSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import { type Failure, failureToDetail } from "@coppice/proto/kit/failure";
import { timestampOf } from "@coppice/proto/kit/recovery-point/microseconds";
import { parseWalFile, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { ArchiverState } from "./archiver-state.ts";

/** Something that was offered and is not of this server. */
export interface Refusal {
  readonly failure: Failure;
  readonly time: Date;
}

/** What is told of a server's own archiving. */
export function archiverMessage(
  state: ArchiverState,
  about: {
    readonly command: string;
    readonly isCommandSet: boolean;
    readonly isHandingOver: boolean;
    readonly refusal: Refusal | undefined;
  },
): WalArchiver {
  const { mode, lastArchived, failedCount, lastFailed, lastArchivedUs, lastFailedUs } = state;
  const { command, isCommandSet, isHandingOver, refusal } = about;
  const waitingSegments = waitingOf(state);
  return create(WalArchiverSchema, {
    mode,
    command,
    isCommandSet,
    isHandingOver,
    ...(waitingSegments === undefined ? {} : { waitingSegments }),
    lastArchived,
    failedCount,
    lastFailed,
    restartStatements: mode === "off" ? ["ALTER SYSTEM SET archive_mode = on;"] : [],
    ...(lastArchivedUs === undefined ? {} : { lastArchivedTime: timestampOf(lastArchivedUs) }),
    ...(lastFailedUs === undefined ? {} : { lastFailedTime: timestampOf(lastFailedUs) }),
    ...(refusal ? { refused: failureToDetail(refusal.failure), refusedTime: timestampFromDate(refusal.time) } : {}),
  });
}

/** By the server's own marks, else by what it archived last, which says nothing of a timeline before. */
function waitingOf({
  waiting,
  lastArchived,
  insertLsn,
  timeline,
  segmentBytes,
  mode,
}: ArchiverState): bigint | undefined {
  if (waiting !== undefined) return BigInt(waiting);
  const last = parseWalFile(lastArchived, segmentBytes);
  if (mode === "off" || insertLsn === undefined || last?.kind !== "segment" || last.timeline !== timeline)
    return undefined;
  return (segmentStart(insertLsn, segmentBytes) - last.startLsn) / segmentBytes - 1n;
}
