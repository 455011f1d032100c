import { create } from "@bufbuild/protobuf";
import type { VerifyWalRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { VerifyWalSpecSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { addRuns } from "@coppice/proto/kit/recovery/extents";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { findWalCleaning } from "../../catalog/active-operations.ts";
import type { Database } from "../../catalog/catalog.ts";
import { listPhysicalCopies } from "../../catalog/physical/copies.ts";
import { findWalArchive, lockWal } from "../../catalog/physical/wal-archive.ts";
import { toExtent } from "../../catalog/physical/wal-extent.ts";
import { listExtents } from "../../catalog/physical/wal-knowledge.ts";
import { requireCluster } from "../../inventory/require.ts";
import { chooseWorker } from "../choose-worker.ts";
import type { Prepared } from "../prepared.ts";
import { primaryHost } from "../server/primary-instance.ts";
import { chooseArchive } from "./choose-archive.ts";

/**
 * Resolves a request to verify the WAL of a cluster's newest server. Errors: CLUSTER_NOT_FOUND, REPOSITORY_NOT_FOUND,
 * WAL_NOT_ARCHIVED, REPOSITORY_AMBIGUOUS, WAL_IN_USE while some of it is deleted, and as chooseWorker.
 */
export async function prepareWalVerification(db: Database, request: VerifyWalRequest): Promise<Prepared> {
  const { row: cluster } = await requireCluster(db, request.cluster);
  const { id: clusterId, name } = cluster;
  const archive = await findWalArchive(db, clusterId);
  const newest = (await listPhysicalCopies(db, clusterId)).at(-1);
  const systemIdentifier = archive?.systemIdentifier ?? newest?.systemIdentifier ?? "";
  const segmentBytes = archive?.segmentBytes ?? newest?.segmentBytes;
  const extents = addRuns((await listExtents(db, { clusterId, systemIdentifier })).map(toExtent), []);
  if (segmentBytes === undefined || extents.length === 0)
    return fail("WAL_NOT_ARCHIVED", `the catalog knows of no archived WAL of cluster ${name}`);
  const repository = await chooseArchive(db, request.repository, { extents, clusterName: name, flag: "--from" });
  await lockWal(db, { clusterId, repositoryId: repository.id });
  const cleaning = await findWalCleaning(db, clusterId);
  if (cleaning !== undefined)
    fail("WAL_IN_USE", `operation ${cleaning} deletes WAL of cluster ${name}`, {
      hint: `wait for it: coppice operation watch ${cleaning}`,
      metadata: { operation: cleaning },
    });
  const { content } = request;
  const preferred = await primaryHost(db, clusterId);
  const host = await chooseWorker(db, { repository, host: request.host, preferred, decrypts: content });
  const own = extents.filter((extent) => extent.repository === repository.id);
  const spec = create(VerifyWalSpecSchema, {
    cluster: clusterId,
    clusterName: name,
    repository: repository.id,
    repositoryName: repository.name,
    systemIdentifier,
    segmentBytes,
    content,
    expected: own.map(({ timeline, startLsn, endLsn }) => ({
      timeline,
      startLsn: formatLsn(startLsn),
      endLsn: formatLsn(endLsn),
    })),
  });
  return {
    operationId: newId("op"),
    spec: { case: "verifyWal", value: spec },
    hostId: host.id,
    clusterId,
    repositoryId: repository.id,
    subject: cluster,
    backups: [],
  };
}
