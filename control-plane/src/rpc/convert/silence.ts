import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type WalArchive, WalArchiveSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { formatDuration } from "@coppice/proto/kit/duration";
import { Failure, failureToDetail } from "@coppice/proto/kit/failure";

/** An archive tells something every ten seconds: after so long nobody knows whether what it told last still holds. */
export const silentMs = 120_000;

/** What is known of an archive, less what may not hold any more: of one that is silent that is its trouble, and no lag is known. */
export function withSilence(archive: WalArchive, now: Date): WalArchive {
  const { hostName, reportTime, ownership } = archive;
  const toldTime = reportTime ?? ownership?.sinceTime;
  const sinceMs = toldTime ? now.getTime() - timestampMs(toldTime) : 0;
  if (archive.repository === "" || sinceMs < silentMs) return archive;
  const forLong = formatDuration(Math.floor(sinceMs / 1000) * 1000);
  const message = `the agent of ${hostName} has told nothing of it for ${forLong}: WAL may not be archived, and what is shown is of then`;
  const hint = `see whether the agent runs: coppice host get ${hostName}; the server keeps what is not archived meanwhile`;
  const trouble = failureToDetail(new Failure("AGENT_LOST", message, { hint }));
  const { lagBytes: _bytes, lagSeconds: _seconds, writtenBytesPerSecond: _written, ...known } = archive;
  const { storedBytesPerSecond: _stored, ...left } = known;
  return create(WalArchiveSchema, { ...left, trouble });
}
