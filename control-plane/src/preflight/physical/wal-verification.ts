import { create } from "@bufbuild/protobuf";
import type { VerifyWalRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { VerifyWalSpecSchema } from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { addRuns, type Extent } from "@coppice/proto/kit/recovery/extents";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { Database } from "../../catalog/catalog.ts";
import { listPhysicalCopies } from "../../catalog/physical/copies.ts";
import { findWalArchive } from "../../catalog/physical/wal-archive.ts";
import { listExtents } from "../../catalog/physical/wal-knowledge.ts";
import { listRepositories, type RepositoryRow } from "../../catalog/repository.ts";
import { requireCluster, requireRepository } from "../../inventory/require.ts";
import { chooseWorker } from "../choose-worker.ts";
import type { Prepared } from "../prepared.ts";
import { primaryHost } from "../primary-instance.ts";
import { toExtent } from "./sound-extents.ts";

/**
 * Resolves a request to verify the WAL of a cluster's newest server. Errors: CLUSTER_NOT_FOUND, REPOSITORY_NOT_FOUND,
 * WAL_NOT_ARCHIVED, REPOSITORY_AMBIGUOUS, and as chooseWorker.
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
  const repository = await chooseRepository(db, request.repository, extents, name);
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

async function chooseRepository(
  db: Database,
  reference: string,
  extents: readonly Extent[],
  clusterName: string,
): Promise<RepositoryRow> {
  const held = new Set(extents.map(({ repository }) => repository));
  if (reference !== "") {
    const named = await requireRepository(db, reference);
    if (held.has(named.id)) return named;
    return fail("WAL_NOT_ARCHIVED", `repository ${named.name} holds no WAL of cluster ${clusterName}`);
  }
  const [only, ...others] = (await listRepositories(db)).filter(({ id }) => held.has(id));
  if (only === undefined) return fail("REPOSITORY_NOT_FOUND", `the repository of the WAL of ${clusterName} is gone`);
  if (others.length === 0) return only;
  const names = [only, ...others].map(({ name }) => name).join(", ");
  return fail("REPOSITORY_AMBIGUOUS", `WAL of cluster ${clusterName} is in several repositories: ${names}`, {
    hint: `name one of them: --from ${only.name}`,
    metadata: { repositories: names },
  });
}
