import { recordEnd } from "@coppice/proto/kit/wal/record-end";
import type { Storage } from "../storage/storage.ts";
import { listAnchors } from "../wal/anchors/list-anchors.ts";
import { listExtents } from "../wal/store/list-extents.ts";
import type { FoundCluster } from "./catalog.ts";

/** WAL of a server that lies in a repository without a hole. */
export interface ArchivedWal {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  /** The newest time of the server's clock that the archive knows to lie in it; more may be there. */
  readonly until: Date | undefined;
}

/**
 * The archived WAL of the servers that a cluster has physical backups of: without one nothing can be recovered by it. Fails
 * as the storage does.
 */
export async function findArchivedWal(
  storage: Storage,
  { id: clusterId, backups }: FoundCluster,
  signal: AbortSignal,
): Promise<ArchivedWal[]> {
  const segmentBytes = new Map<string, bigint>();
  for (const { manifest } of backups)
    if (manifest.content.case === "physical")
      segmentBytes.set(manifest.systemIdentifier, manifest.content.value.walSegmentBytes);
  const found: ArchivedWal[] = [];
  for (const [systemIdentifier, bytes] of segmentBytes) {
    const place = { clusterId, systemIdentifier };
    const extents = await listExtents(storage, { place, segmentBytes: bytes, signal });
    const anchors = extents.length === 0 ? [] : await listAnchors(storage, place, signal);
    for (const extent of extents) {
      const times = anchors
        .filter(({ timeline, lsn }) => timeline === extent.timeline && lsn >= extent.startLsn)
        // One counts where everything before it is stored.
        .filter(({ lsn }) => recordEnd(lsn, bytes) <= extent.endLsn)
        .map(({ timeUs }) => timeUs);
      const newest = times.reduce((most, time) => (time > most ? time : most), 0n);
      const until = newest === 0n ? undefined : new Date(Number(newest / 1000n));
      found.push({ systemIdentifier, ...extent, until });
    }
  }
  return found;
}
