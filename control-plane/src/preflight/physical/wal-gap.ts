import { addRuns, removeRuns } from "@coppice/proto/kit/recovery/extents";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { Database } from "../../catalog/catalog.ts";
import type { PhysicalCopy } from "../../catalog/physical/copies.ts";
import { toExtent } from "../../catalog/physical/wal-extent.ts";
import { listExtents } from "../../catalog/physical/wal-knowledge.ts";
import { lacksWal, listLost } from "../../catalog/physical/wal-lost.ts";
import { provenWal } from "../../catalog/physical/recovery-backup.ts";

/**
 * Why an increment of WAL cannot go on from a parent, as far as the catalog knows: WAL is lost that leads to the parent
 * itself, or there is WAL behind its end, and some between is missing for good. Undefined when nothing is known to be
 * missing; the archive may be behind.
 */
export async function walGapAfter(
  db: Database,
  { clusterId, parent, copies }: { clusterId: string; parent: PhysicalCopy; copies: readonly PhysicalCopy[] },
): Promise<string | undefined> {
  const { repositoryId: repository, systemIdentifier, timeline, stopLsn } = parent;
  const lost = await listLost(db, { clusterId, systemIdentifier });
  const broken = replayedFor(parent, copies).find((copy) => lacksWal(copy, lost));
  if (broken !== undefined) return `the archive has lost WAL that ${broken.id} needs, which its replay begins with`;
  const told = (await listExtents(db, { clusterId, systemIdentifier })).map(toExtent);
  const stored = addRuns(
    told,
    copies.flatMap((copy) => provenWal(copy)),
  );
  const isOwn = (extent: (typeof stored)[number]) =>
    extent.repository === repository && extent.systemIdentifier === systemIdentifier && extent.timeline === timeline;
  const own = removeRuns(stored, lost.map(toExtent)).filter(isOwn);
  const end = own.find((extent) => extent.startLsn <= stopLsn && extent.endLsn >= stopLsn)?.endLsn ?? stopLsn;
  const later = own.find(({ startLsn }) => startLsn > end)?.startLsn;
  // What is lost at the archive's end is missing for good too.
  const lostEnd = lost
    .map(toExtent)
    .filter(isOwn)
    .findLast((run) => run.endLsn > end)?.endLsn;
  const until = later ?? lostEnd;
  return until === undefined
    ? undefined
    : `the archive lacks WAL from ${formatLsn(end)} to ${formatLsn(until)}, after the end of its parent ${parent.id}`;
}

/** The backups whose WAL recovery to a parent replays: its own, and those of what it was replayed from. */
function replayedFor(parent: PhysicalCopy, copies: readonly PhysicalCopy[]): PhysicalCopy[] {
  const chain = [parent];
  for (let current = parent; current.isWalIncrement;) {
    const { parentId, repositoryId } = current;
    const next = copies.find((copy) => copy.id === parentId && copy.repositoryId === repositoryId);
    if (next === undefined || chain.includes(next)) break;
    chain.push(next);
    current = next;
  }
  return chain;
}
