import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import type { CleanWalRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { CleanWalSpecSchema, UnneededReason } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { parseTimelineHistory } from "@coppice/proto/kit/recovery/timeline-history";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { findWalUser } from "../../../catalog/active-operations.ts";
import type { Database } from "../../../catalog/catalog.ts";
import { listArchivedNames, listPhysicalCopies } from "../../../catalog/physical/copies.ts";
import { findWalArchive, lockWal } from "../../../catalog/physical/wal-archive.ts";
import { listDeleted } from "../../../catalog/physical/wal-deleted.ts";
import { listExtents, listHistories } from "../../../catalog/physical/wal-knowledge.ts";
import { requireCluster } from "../../../inventory/require.ts";
import { chooseWorker } from "../../choose-worker.ts";
import type { Prepared } from "../../prepared.ts";
import { primaryHost } from "../../server/primary-instance.ts";
import { chooseArchive } from "../choose-archive.ts";
import { physicalBackup } from "../../../catalog/physical/recovery-backup.ts";
import { toExtent } from "../../../catalog/physical/wal-extent.ts";
import { type UnneededRun, unneededWal } from "./unneeded-wal.ts";

const reasons = {
  "before-backups": UnneededReason.BEFORE_BACKUPS,
  "before-gap": UnneededReason.BEFORE_GAP,
  abandoned: UnneededReason.ABANDONED,
  "left-over": UnneededReason.LEFT_OVER,
} as const satisfies Record<UnneededRun["reason"], UnneededReason>;

const usualSegmentBytes = 16n << 20n;

/**
 * Resolves a request to delete WAL of a cluster's present server, or of a former one, that no backup leads to. Errors: CLUSTER_NOT_FOUND,
 * REPOSITORY_NOT_FOUND, WAL_NOT_ARCHIVED, REPOSITORY_AMBIGUOUS, WAL_IN_USE naming the operation, ETAG_MISMATCH, and as
 * chooseWorker.
 */
export async function prepareWalCleanup(db: Database, request: CleanWalRequest): Promise<Prepared> {
  const { dryRun } = request;
  const record = await requireCluster(db, request.cluster);
  const { id: clusterId, name } = record.row;
  const archive = await findWalArchive(db, clusterId);
  const seen = record.incarnations.toSorted((a, b) => b.lastSeenTime.getTime() - a.lastSeenTime.getTime());
  const present = [archive?.systemIdentifier, seen[0]?.systemIdentifier].filter((each) => each !== undefined);
  const systemIdentifier = request.systemIdentifier || (present[0] ?? "");
  const isFormer = seen.length > 0 && !present.includes(systemIdentifier);
  const server = { clusterId, systemIdentifier };
  const none = () => fail("WAL_NOT_ARCHIVED", `the catalog knows of no archived WAL of cluster ${name}`);
  const told = [...(await listExtents(db, server)), ...(await listDeleted(db, server))].map(toExtent);
  if (told.length === 0) return none();
  const repository = await chooseArchive(db, request.repository, { extents: told, clusterName: name, flag: "--in" });
  const place = { ...server, repositoryId: repository.id };
  if (!dryRun) {
    await lockWal(db, place);
    await refuseInUse(db, { clusterId, name });
  }
  // Read only now, and again: what had begun before has ended, and whatever it stored is known.
  const copies = await listPhysicalCopies(db, clusterId);
  const own = copies.filter((copy) => copy.systemIdentifier === systemIdentifier);
  // Of a former server without a backup any size will do: what is found goes in any case.
  const known = archive?.segmentBytes ?? copies.at(-1)?.segmentBytes ?? (isFormer ? usualSegmentBytes : undefined);
  const segmentBytes = own.at(-1)?.segmentBytes ?? known ?? none();
  const deleted = (await listDeleted(db, server)).map(toExtent).filter((run) => run.repository === repository.id);
  const extents = (await listExtents(db, server)).map(toExtent);
  const histories = (await listHistories(db, server)).map((row) => parseTimelineHistory(row.timeline, row.content));
  const unneeded = unneededWal({
    systemIdentifier,
    segmentBytes,
    backups: copies.map(physicalBackup),
    histories,
    extents,
    written: archive?.timeline && archive.systemIdentifier === systemIdentifier ? [archive.timeline] : [],
    isFormer,
    deleted,
  }).filter((run) => run.repository === repository.id);
  const etag = markOf(unneeded, repository.id);
  if (request.etag !== "" && request.etag !== etag)
    fail("ETAG_MISMATCH", `what nothing needs of the WAL of ${name} is not what it was when it was shown`);
  const spec = create(CleanWalSpecSchema, {
    cluster: clusterId,
    clusterName: name,
    repository: repository.id,
    repositoryName: repository.name,
    systemIdentifier,
    segmentBytes,
    unneeded: unneeded.map(({ timeline, startLsn, endLsn, reason, backup = "" }) => ({
      stretch: { timeline, startLsn: formatLsn(startLsn), endLsn: formatLsn(endLsn) },
      reason: reasons[reason],
      backup,
    })),
    keptNames: (await listArchivedNames(db, clusterId)).filter((file) => file.includes(".partial.")),
    dryRun,
    etag,
    backedUp: own.length > 0,
    knownFolders: copies.filter((copy) => copy.repositoryId === repository.id).map(({ folder }) => folder),
  });
  const host = await chooseWorker(db, {
    repository,
    host: request.host,
    preferred: await primaryHost(db, clusterId),
  });
  return {
    operationId: newId("op"),
    spec: { case: "cleanWal", value: spec },
    hostId: host.id,
    clusterId,
    repositoryId: repository.id,
    subject: record.row,
    ...(dryRun ? {} : { exclusiveKey: `clean_wal ${clusterId}` }),
    backups: [],
  };
}

async function refuseInUse(db: Database, { clusterId, name }: { clusterId: string; name: string }): Promise<void> {
  const user = await findWalUser(db, clusterId);
  if (user === undefined) return;
  fail("WAL_IN_USE", `operation ${user.id} (${user.kind.replaceAll("_", " ")}) of cluster ${name} has not ended`, {
    hint: `wait for it: coppice operation watch ${user.id}`,
    metadata: { operation: user.id },
  });
}

/** Says whether two looks saw the same. */
function markOf(runs: readonly UnneededRun[], repositoryId: string): string {
  const lines = runs.map(({ timeline, startLsn, endLsn }) => `${timeline} ${startLsn} ${endLsn}`);
  return createHash("sha256")
    .update([repositoryId, ...lines].join("\n"))
    .digest("hex")
    .slice(0, 32);
}
