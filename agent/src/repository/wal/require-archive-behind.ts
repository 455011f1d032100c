import { type WalPlace, walTimelinePrefix } from "../layout.ts";
import type { Storage } from "../../storage/storage.ts";
import { listedRun } from "./listed-run.ts";
import { setBackFailure } from "./set-back-failure.ts";

/** An archive, and the end of the server's WAL, which is asked for after the archive's. */
export interface ArchiveBehind {
  readonly place: WalPlace;
  readonly timeline: number;
  readonly segmentBytes: bigint;
  readonly serverLsn: () => Promise<bigint>;
  readonly signal: AbortSignal;
}

/**
 * A primary whose WAL ends before what is archived of its timeline did not write that: what it writes from now on would be
 * taken for it by its name. Fails with WAL_FOREIGN, as `serverLsn`, and as the storage does.
 */
export async function requireArchiveBehind(storage: Storage, archive: ArchiveBehind): Promise<void> {
  const { place, timeline, segmentBytes, serverLsn, signal } = archive;
  let archivedLsn = 0n;
  for await (const { key } of storage.list(walTimelinePrefix(place, timeline), signal)) {
    const run = listedRun(key, segmentBytes);
    if (run && run.endLsn > archivedLsn) archivedLsn = run.endLsn;
  }
  const lsn = await serverLsn();
  if (archivedLsn > lsn) throw setBackFailure(timeline, { lsn, archivedLsn });
}
