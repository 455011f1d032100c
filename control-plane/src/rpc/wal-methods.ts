import { create, toJson } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import {
  type ClusterService,
  type RecoveryWindow,
  type UpdateWalArchiveRequest,
  type WalArchive,
  WalArchiveSchema,
} from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import { writeAudit } from "../audit/audit.ts";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { type ClusterRecord, lockCluster } from "../catalog/cluster.ts";
import { hostNames } from "../catalog/host.ts";
import { changeDesired, changeDesiredOf } from "../catalog/physical/desired.ts";
import { deleteWalArchive, findWalArchive, putWalArchive } from "../catalog/physical/wal-archive.ts";
import { anchorTimeBefore } from "../catalog/physical/wal-knowledge.ts";
import { repositoryNames } from "../catalog/repository.ts";
import { requireCluster } from "../inventory/require.ts";
import { readRecoveryInput } from "../preflight/physical/recovery-input.ts";
import { listSoundExtents } from "../preflight/physical/sound-extents.ts";
import { prepareWalVerification } from "../preflight/physical/wal-verification.ts";
import { resolveWalArchive, type WantedArchive } from "../preflight/physical/wal-archive.ts";
import { recoveryWindows } from "@coppice/proto/kit/recovery/windows";
import { auditedCall } from "./audited-call.ts";
import { claimCreate } from "./claim-create.ts";
import { windowMessages } from "./convert/recovery-window.ts";
import { walArchiveMessage } from "./convert/wal-archive.ts";
import type { Start } from "./start.ts";

/** The methods of ClusterService about WAL and what can be recovered by it. */
export function walMethods(
  catalog: Catalog,
  start: Start,
): Pick<ServiceImpl<typeof ClusterService>, "updateWalArchive" | "getWalArchive" | "verifyWal" | "getRecoveryWindow"> {
  return {
    async updateWalArchive(request, context) {
      const answer = await catalog.transaction((tx) => update(tx, request, context));
      return answer ?? describe(catalog.db, await requireCluster(catalog.db, request.cluster));
    },
    getWalArchive: async (request) => describe(catalog.db, await requireCluster(catalog.db, request.cluster)),
    verifyWal: (request, context) => start(request, context, (tx) => prepareWalVerification(tx, request)),
    async getRecoveryWindow(request) {
      const { row } = await requireCluster(catalog.db, request.cluster);
      return { windows: await readWindows(catalog.db, row.id) };
    },
  };
}

/** What can be recovered of a cluster's newest server through archived WAL, a window for each timeline, newest last. */
export async function readWindows(db: Database, clusterId: string): Promise<RecoveryWindow[]> {
  const input = await readRecoveryInput(db, { clusterId });
  return input === undefined ? [] : windowMessages(recoveryWindows(input));
}

/** Changes what is archived; gives what would be, when only that was asked for. */
async function update(
  tx: Database,
  request: UpdateWalArchiveRequest,
  context: HandlerContext,
): Promise<WalArchive | undefined> {
  const cluster = await lockCluster(tx, request.cluster);
  if (cluster === undefined) return fail("CLUSTER_NOT_FOUND", `there is no cluster ${request.cluster}`);
  const { id: clusterId } = cluster.row;
  if (!request.validateOnly) {
    const earlier = await claimCreate(tx, context, { request, resourceId: clusterId });
    if (earlier !== undefined) return undefined;
  }
  if (request.disable) {
    refuseContradiction(request);
    if (request.validateOnly) return preview(cluster, undefined);
    await changeDesiredOf(tx, { clusterId });
    await deleteWalArchive(tx, clusterId);
  } else {
    const wanted = await resolveWalArchive(tx, cluster, request);
    if (request.validateOnly) return preview(cluster, wanted);
    const { host, repository, systemIdentifier, settings } = wanted;
    await putWalArchive(tx, {
      clusterId,
      hostId: host.id,
      repositoryId: repository.id,
      systemIdentifier,
      settings: toJson(WalSettingsSchema, settings),
    });
    await changeDesired(tx, host.id);
  }
  await writeAudit(tx, auditedCall(context, request), cluster.row);
  return undefined;
}

function refuseContradiction({ repository, settings }: UpdateWalArchiveRequest): void {
  if (repository === "" && settings === undefined) return;
  const field = repository === "" ? "settings" : "repository";
  fail("INVALID_FIELD", `who archives no more gives no ${field}`, {
    fields: [{ field, expected: "nothing with disable" }],
  });
}

function preview({ row: { id, name } }: ClusterRecord, wanted: WantedArchive | undefined): WalArchive {
  const message = create(WalArchiveSchema, { cluster: id, clusterName: name });
  if (wanted === undefined) return message;
  const { host, repository, systemIdentifier, settings } = wanted;
  return create(WalArchiveSchema, {
    ...message,
    repository: repository.id,
    repositoryName: repository.name,
    settings,
    systemIdentifier,
    host: host.id,
    hostName: host.name,
  });
}

async function describe(db: Database, { row: cluster }: ClusterRecord): Promise<WalArchive> {
  const row = await findWalArchive(db, cluster.id);
  const extents = await listSoundExtents(db, { clusterId: cluster.id });
  if (row === undefined) return walArchiveMessage({ cluster, row, extents });
  const { hostId, repositoryId, systemIdentifier, storedLsn: lsn, timeline } = row;
  const server = { clusterId: cluster.id, systemIdentifier };
  const isKnown = lsn !== null && timeline !== null;
  return walArchiveMessage({
    cluster,
    row,
    extents,
    hostName: (await hostNames(db, [hostId])).get(hostId) ?? "",
    repositoryName: (await repositoryNames(db, [repositoryId])).get(repositoryId) ?? "",
    storedUntilUs: isKnown ? await anchorTimeBefore(db, server, { timeline, lsn }) : undefined,
  });
}
