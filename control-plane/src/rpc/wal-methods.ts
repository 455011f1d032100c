import { create, fromJson, toJson } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { WalSettingsSchema } from "@coppice/proto/gen/coppice/common/v1/wal_archive";
import {
  type ClusterService,
  type RecoveryWindow,
  type UpdateWalArchiveRequest,
  type WalArchive,
  WalArchiveSchema,
} from "@coppice/proto/gen/coppice/control/v1/cluster";
import { headerEnd } from "@coppice/proto/kit/wal/record-end";
import { fail } from "@coppice/proto/kit/failure";
import { writeAudit } from "../audit/audit.ts";
import type { Catalog, Database } from "../catalog/catalog.ts";
import { type ClusterRecord, lockCluster, mainInstance } from "../catalog/cluster.ts";
import { hostNames } from "../catalog/host.ts";
import { endDesired, repeatEnded } from "../catalog/physical/desired.ts";
import { findStrayCluster, findStraySettings } from "../catalog/physical/told/stray-archive.ts";
import { deleteWalArchive, findWalArchive, type WalArchiveRow } from "../catalog/physical/wal-archive.ts";
import { declareWalOwnerDead, putWalArchive } from "../catalog/physical/wal-owner.ts";
import { anchorTimeBefore } from "../catalog/physical/wal-knowledge.ts";
import { repositoryNames } from "../catalog/repository.ts";
import { requireCluster, requireHost } from "../inventory/require.ts";
import { listArchiveGaps } from "../preflight/physical/archive-gaps.ts";
import { readRecoveryInput } from "../preflight/physical/recovery-input.ts";
import { listSoundExtents } from "../preflight/physical/sound-extents.ts";
import { prepareWalCleanup } from "../preflight/physical/cleanup/wal-cleanup.ts";
import { prepareWalVerification } from "../preflight/physical/wal-verification.ts";
import { resolveWalArchive, type WantedArchive } from "../preflight/physical/wal-archive.ts";
import { recoveryWindows } from "@coppice/proto/kit/recovery/windows";
import { auditedCall } from "./audited-call.ts";
import { claimCreate } from "./claim-create.ts";
import { windowMessages } from "./convert/recovery-window.ts";
import { withSilence } from "./convert/silence.ts";
import { walArchiveMessage } from "./convert/wal-archive.ts";
import type { Start } from "./start.ts";

/** The methods of ClusterService about WAL and what can be recovered by it. */
export function walMethods(
  catalog: Catalog,
  start: Start,
): Pick<
  ServiceImpl<typeof ClusterService>,
  "updateWalArchive" | "getWalArchive" | "verifyWal" | "cleanWal" | "getRecoveryWindow"
> {
  return {
    async updateWalArchive(request, context) {
      const answer = await catalog.transaction((tx) => update(tx, request, context));
      return answer ?? describe(catalog.db, await requireCluster(catalog.db, request.cluster));
    },
    getWalArchive: async (request) => describe(catalog.db, await requireCluster(catalog.db, request.cluster)),
    verifyWal: (request, context) => start(request, context, (tx) => prepareWalVerification(tx, request)),
    cleanWal: (request, context) => start(request, context, (tx) => prepareWalCleanup(tx, request)),
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
  if (cluster === undefined) return await endStray(tx, request, context);
  const { id: clusterId } = cluster.row;
  if (!request.validateOnly) {
    const earlier = await claimCreate(tx, context, { request, resourceId: clusterId });
    if (earlier !== undefined) return undefined;
  }
  if (request.disable) {
    refuseContradiction(request);
    if (request.validateOnly) return preview(cluster, undefined);
    // Of what is ended already that says that its server is gone.
    await endWalArchive(tx, clusterId, true);
  } else if (request.ownerDead !== "") {
    refuseContradiction(request);
    await declareDead(tx, cluster, request.ownerDead);
  } else {
    const wanted = await resolveWalArchive(tx, cluster, request);
    if (request.validateOnly) return preview(cluster, wanted);
    await put(tx, clusterId, wanted);
  }
  await writeAudit(tx, auditedCall(context, request), cluster.row);
  return undefined;
}

async function put(tx: Database, clusterId: string, wanted: WantedArchive): Promise<void> {
  const { host, repository, systemIdentifier, settings } = wanted;
  const present = await findWalArchive(tx, clusterId);
  // Of another server nothing is handed over: whoever else archives the one before is to end.
  if (present && present.systemIdentifier !== systemIdentifier)
    await endDesired(tx, { clusterId, hostIds: hostsOf(present).filter((id) => id !== host.id), isGone: false });
  await repeatEnded(tx, { clusterId, exceptHostId: host.id });
  const place = { clusterId, hostId: host.id, repositoryId: repository.id, systemIdentifier };
  await putWalArchive(tx, { ...place, settings: toJson(WalSettingsSchema, settings) }, new Date());
}

/**
 * Has the WAL of a cluster that is with another host now archived by that host's agent, as it was so far, once its present
 * owner has acknowledged. Errors: those of resolveWalArchive.
 */
export async function moveWalArchive(tx: Database, clusterId: string): Promise<void> {
  const present = await findWalArchive(tx, clusterId);
  if (present === undefined) return;
  const { repositoryId: repository, settings } = present;
  const asBefore = { repository, settings: fromJson(WalSettingsSchema, settings, { ignoreUnknownFields: true }) };
  await put(tx, clusterId, await resolveWalArchive(tx, await requireCluster(tx, clusterId), asBefore));
}

/** Errors: HOST_NOT_FOUND, WAL_OWNER_NOT_AWAITED. */
async function declareDead(
  tx: Database,
  { row: { id: clusterId, name }, instances }: ClusterRecord,
  reference: string,
): Promise<void> {
  const host = await requireHost(tx, reference);
  const moved = await declareWalOwnerDead(tx, { clusterId, hostId: host.id }, new Date());
  if (moved !== undefined) return;
  const row = await findWalArchive(tx, clusterId);
  const isOwner = row?.hostId === host.id;
  fail(
    "WAL_OWNER_NOT_AWAITED",
    isOwner
      ? `the agent of ${host.name} archives WAL of ${name}, and it does not move to another host`
      : `the agent of ${host.name} does not own WAL of ${name}`,
    isOwner
      ? {
          hint:
            instances.length > 1
              ? `let that of the new primary go on: coppice cluster check ${name}, then coppice wal setup ${name}`
              : `name the host that goes on: coppice cluster update ${name} --host HOST`,
        }
      : {},
  );
}

/** Archives nothing of the cluster any more: not what is wanted, and not what agents do unasked. */
export async function endWalArchive(tx: Database, clusterId: string, isGone: boolean): Promise<void> {
  const archive = await findWalArchive(tx, clusterId);
  await endDesired(tx, { clusterId, hostIds: archive === undefined ? [] : hostsOf(archive), isGone });
  await deleteWalArchive(tx, clusterId);
}

/** Ends what an agent archives of a cluster that the catalog does not know. */
async function endStray(tx: Database, request: UpdateWalArchiveRequest, context: HandlerContext): Promise<WalArchive> {
  const stray = request.disable ? await findStrayCluster(tx, request.cluster) : undefined;
  if (stray === undefined) return fail("CLUSTER_NOT_FOUND", `there is no cluster ${request.cluster}`);
  refuseContradiction(request);
  const { clusterId, clusterName } = stray;
  if (!request.validateOnly) {
    await endWalArchive(tx, clusterId, true);
    await writeAudit(tx, auditedCall(context, request), { id: clusterId, name: clusterName });
  }
  return create(WalArchiveSchema, { cluster: clusterId, clusterName });
}

function refuseContradiction(request: UpdateWalArchiveRequest): void {
  const { repository, settings, disable, ownerDead, validateOnly } = request;
  const what = disable ? "disable" : "owner_dead";
  const given: readonly (readonly [string, boolean])[] = [
    ["repository", repository !== ""],
    ["settings", settings !== undefined],
    ["owner_dead", disable && ownerDead !== ""],
    ["validate_only", !disable && validateOnly],
  ];
  const [field] = given.find(([, isGiven]) => isGiven) ?? [];
  if (field === undefined) return;
  fail("INVALID_FIELD", `a request with ${what} gives no ${field}`, {
    fields: [{ field, expected: `nothing with ${what}` }],
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

async function describe(db: Database, record: ClusterRecord): Promise<WalArchive> {
  const cluster = record.row;
  const row = await findWalArchive(db, cluster.id);
  const extents = await listSoundExtents(db, { clusterId: cluster.id });
  const gaps = await listArchiveGaps(db, extents, row);
  if (row === undefined) {
    const straySettings = await findStraySettings(db, {
      clusterId: cluster.id,
      hostId: mainInstance(record)?.hostId,
    });
    return walArchiveMessage({ cluster, row, straySettings, extents, gaps });
  }
  const { repositoryId, systemIdentifier, storedLsn: lsn, timeline } = row;
  const server = { clusterId: cluster.id, systemIdentifier };
  const isKnown = lsn !== null && timeline !== null;
  const archive = walArchiveMessage({
    cluster,
    row,
    extents,
    gaps,
    hostNames: await hostNames(db, hostsOf(row)),
    repositoryName: (await repositoryNames(db, [repositoryId])).get(repositoryId) ?? "",
    storedUntilUs: isKnown
      ? await anchorTimeBefore(db, server, {
          timeline,
          lsn: row.segmentBytes === null ? lsn : headerEnd(lsn, row.segmentBytes),
        })
      : undefined,
  });
  return withSilence(archive, new Date());
}

const hostsOf = ({ hostId, nextHostId, former, deadOwners }: WalArchiveRow) => [
  hostId,
  ...(nextHostId === null ? [] : [nextHostId]),
  ...(former === null ? [] : [former.hostId]),
  ...deadOwners.map((one) => one.hostId),
];
