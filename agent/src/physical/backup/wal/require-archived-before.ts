import { isFailure } from "@coppice/proto/kit/failure";
import { segmentName, segmentStart } from "@coppice/proto/kit/wal/segment";
import type { ReplicationConnection, SystemIdentity } from "../../../postgres/replication/open-replication.ts";
import type { WalPlace } from "../../../repository/layout.ts";
import { keptDigest } from "../../../repository/wal/kept-digest.ts";
import type { Storage } from "../../../storage/storage.ts";
import { foreignStandby, untoldArchive } from "./foreign-standby.ts";
import { readArchived } from "./read-archived.ts";
import { openSegmentDigest } from "../../../postgres/wal/segment-digest.ts";
import { servedDigest } from "./served-digest.ts";

/** A standby, and the archive that the WAL of its backup is left to. */
export interface StandbyBefore {
  readonly place: WalPlace;
  /** For people: of which cluster. */
  readonly clusterName: string;
  readonly seen: SystemIdentity;
  readonly segmentBytes: bigint;
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/**
 * Compares the last segment that a standby has whole with the archive's, so that one of another server is refused before a
 * byte is copied; where the archive or the standby has none, the end of the backup tells. Fails with WAL_FOREIGN, with
 * IDENTITY_MISSING where the archive's cannot be compared, and as servedDigest and the storage do.
 */
export async function requireArchivedBefore(
  storage: Storage,
  replication: ReplicationConnection,
  { place, clusterName, seen: { timeline, lsn }, segmentBytes, waitMs, signal }: StandbyBefore,
): Promise<void> {
  const endLsn = segmentStart(lsn, segmentBytes);
  const name = segmentName(timeline, endLsn - segmentBytes, segmentBytes);
  try {
    const archived = await archivedDigest(storage, { place, name, segmentBytes, signal });
    if (archived === undefined) return;
    const served = await servedDigest(replication, { timeline, endLsn, segmentBytes, waitMs, signal });
    if (served !== archived) throw foreignStandby({ timeline, endLsn, clusterName });
  } catch (error) {
    // What is damaged is none of the backup's WAL.
    if (!isFailure(error, "WAL_REMOVED") && !isFailure(error, "CONTENT_UNREADABLE")) throw error;
  }
}

/** Of its plain bytes; undefined where it is not there, or not whole. */
async function archivedDigest(
  storage: Storage,
  { segmentBytes, ...file }: Pick<StandbyBefore, "place" | "segmentBytes" | "signal"> & { readonly name: string },
): Promise<string | undefined> {
  const digest = openSegmentDigest({ bytes: segmentBytes, segmentBytes });
  const found = await readArchived(storage, file, (piece) => digest.take(piece));
  if (!found?.encrypted) return digest.finish();
  return (await keptDigest(storage, file)) ?? Promise.reject(untoldArchive(file.name));
}
