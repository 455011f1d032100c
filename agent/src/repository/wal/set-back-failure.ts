import { Failure } from "@coppice/proto/kit/failure";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";

/** What to do about a server that is not the one whose WAL is archived, or was set back. */
export const setBackHint =
  "it is a copy of the server that was archived, or was set back: archive that server; or this one into another repository, coppice wal setup CLUSTER --to REPOSITORY, and take a full backup there; nothing was overwritten";

/** That a server's WAL ends before what is archived of it. */
export function setBackFailure(timeline: number, { lsn, archivedLsn }: { lsn: bigint; archivedLsn: bigint }): Failure {
  const [is, was] = [formatLsn(lsn), formatLsn(archivedLsn)];
  return new Failure("WAL_FOREIGN", `the server's timeline ${timeline} ends at ${is}, and is archived up to ${was}`, {
    hint: setBackHint,
    metadata: { timeline: String(timeline), archivedLsn: was },
  });
}
