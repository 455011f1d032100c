import { addRuns, type Extent, removeRuns } from "@coppice/proto/kit/recovery/extents";
import type { Run } from "@coppice/proto/kit/recovery/merge-runs";
import { coverage, reaches } from "@coppice/proto/kit/recovery/reach";
import { parseTimelineHistory, type TimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { leadsThrough, timelinePath } from "@coppice/proto/kit/recovery/timeline-path";
import type { Database } from "../catalog.ts";
import { listPhysicalCopies } from "./copies.ts";
import { physicalBackup, provenWal } from "./recovery-backup.ts";
import type { WalArchiveRow } from "./wal-archive.ts";
import { toExtent } from "./wal-extent.ts";
import { listExtents, listHistories, type WalServer } from "./wal-knowledge.ts";
import { lacksWal, listLost } from "./wal-lost.ts";

/** WAL that is missing in an archive, behind which no backup begins: nothing that is archived after it can be reached. */
export interface WalGap {
  readonly timeline: number;
  readonly startLsn: bigint;
  /** First position after it. */
  readonly endLsn: bigint;
  /** Whether there is a full backup of the server at all: somebody wants it backed up. */
  readonly isBackedUp: boolean;
}

/**
 * The last gap on the way to the archive's end that no good backup begins behind; undefined when there is none. What was
 * found to be lost is a gap as what was never stored is. Segments are stored several at once: what comes behind the
 * position that is stored without a hole is not known to be a gap yet.
 */
export async function findWalGap(db: Database, archive: WalArchiveRow): Promise<WalGap | undefined> {
  const { clusterId, repositoryId, systemIdentifier, timeline, segmentBytes, storedLsn } = archive;
  if (timeline === null || segmentBytes === null || storedLsn === null) return undefined;
  const server = { clusterId, systemIdentifier };
  const lost = await listLost(db, server);
  const { extents, histories } = await readStored(db, server);
  const path = timelinePath(histories, timeline);
  const onPath = (of: readonly Extent[]) =>
    coverage({ systemIdentifier, segmentBytes, extents: of }, path, repositoryId);
  const missing = missingOf(onPath(extents), onPath(removeRuns(extents, lost.map(toExtent)))).findLast(
    ({ endLsn, isLast }) => (isLast ? storedLsn >= endLsn : storedLsn > endLsn),
  );
  if (missing === undefined) return undefined;
  const whole = (await listPhysicalCopies(db, clusterId)).filter(
    (copy) => copy.systemIdentifier === systemIdentifier && copy.complete && copy.state === "STORED",
  );
  const isBehind = whole.some(
    (copy) =>
      copy.startLsn >= missing.endLsn && leadsThrough(path, copy.timeline, copy.startLsn) && !lacksWal(copy, lost),
  );
  if (isBehind) return undefined;
  const { startLsn, endLsn } = missing;
  return { timeline, startLsn, endLsn, isBackedUp: whole.some(({ parentId }) => parentId === null) };
}

/** What is stored without a hole along the way to an archive's timeline, in order; nothing while no agent has told of it. */
export async function listStretches(
  db: Database,
  archive: WalArchiveRow,
): Promise<{ startLsn: bigint; endLsn: bigint }[]> {
  const { clusterId, repositoryId, systemIdentifier, timeline, segmentBytes } = archive;
  if (timeline === null || segmentBytes === null) return [];
  const { extents, histories } = await readStored(db, { clusterId, systemIdentifier });
  return coverage({ systemIdentifier, segmentBytes, extents }, timelinePath(histories, timeline), repositoryId);
}

/**
 * Whether good backups of an archive's server lead nowhere into what is archived now: taken into another repository, or
 * before archiving began; undefined when one does, when nothing is stored yet, or where the present end is in a gap, which
 * findWalGap tells.
 */
export async function findUnled(
  db: Database,
  archive: WalArchiveRow,
): Promise<{ readonly isBackedUp: boolean } | undefined> {
  const { clusterId, repositoryId, systemIdentifier, timeline, segmentBytes, storedLsn } = archive;
  if (timeline === null || segmentBytes === null || storedLsn === null) return undefined;
  const server = { clusterId, systemIdentifier };
  const lost = await listLost(db, server);
  const copies = (await listPhysicalCopies(db, clusterId)).filter((copy) => copy.systemIdentifier === systemIdentifier);
  const { extents: stored, histories } = await readStored(db, server);
  const extents = removeRuns(addRuns(stored, copies.flatMap(provenWal)), lost.map(toExtent));
  const of = { systemIdentifier, segmentBytes, extents };
  const holdsEnd = ({ startLsn, endLsn }: { readonly startLsn: bigint; readonly endLsn: bigint }) =>
    startLsn <= storedLsn && storedLsn <= endLsn;
  if (!coverage(of, timelinePath(histories, timeline), repositoryId).some(holdsEnd)) return undefined;
  const isLed = reaches({ ...of, backups: copies.map(physicalBackup), histories, anchors: [] }).some(
    (reach) => reach.repository === repositoryId && reach.timeline === timeline && holdsEnd(reach),
  );
  if (isLed) return undefined;
  return {
    isBackedUp: copies.some(({ parentId, complete, state }) => parentId === null && complete && state === "STORED"),
  };
}

/** What is stored of a server's WAL, and how its timelines grew out of each other. */
async function readStored(
  db: Database,
  server: WalServer,
): Promise<{ readonly extents: Extent[]; readonly histories: TimelineHistory[] }> {
  const extents = (await listExtents(db, server)).map(toExtent);
  const histories = (await listHistories(db, server)).map((row) => parseTimelineHistory(row.timeline, row.content));
  return { extents, histories };
}

interface Missing extends Run {
  /** Nothing is there behind it. */
  readonly isLast: boolean;
}

/** What is not sound between the beginning and the end of all that was stored, in order. */
function missingOf(stored: readonly Run[], sound: readonly Run[]): Missing[] {
  const [first] = stored;
  const last = stored.at(-1);
  if (first === undefined || last === undefined) return [];
  const ends = [first.startLsn, ...sound.map(({ endLsn }) => endLsn)];
  const starts = [...sound.map(({ startLsn }) => startLsn), last.endLsn];
  return ends
    .map((startLsn, index) => ({ startLsn, endLsn: starts[index] ?? startLsn, isLast: index === sound.length }))
    .filter(({ startLsn, endLsn }) => startLsn < endLsn);
}
