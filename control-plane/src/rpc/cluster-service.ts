import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Cluster, ClusterService, DeleteClusterRequest } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { fail } from "@coppice/proto/kit/failure";
import type { KeyObject } from "node:crypto";
import { writeAudit } from "../audit/audit.ts";
import { hasActiveOperations } from "../catalog/active-operations.ts";
import { lastGoodDumps } from "../catalog/backup.ts";
import type { Catalog, Database } from "../catalog/catalog.ts";
import {
  type ClusterRecord,
  deleteCluster,
  listClusterInstances,
  listClusters,
  lockCluster,
} from "../catalog/cluster.ts";
import { hostNames, listFoundClusters } from "../catalog/host.ts";
import { lastGoodPhysicals } from "../catalog/physical/last-good.ts";
import { deleteSecret } from "../catalog/secret.ts";
import { endpointOf, findProtection } from "../inventory/protection.ts";
import { requireCluster, requireHost } from "../inventory/require.ts";
import { prepareClusterCheck } from "../preflight/check.ts";
import { auditedCall } from "./audited-call.ts";
import { claimCreate } from "./claim-create.ts";
import { clusterMessage } from "./convert/cluster.ts";
import { requireEtag } from "./etag.ts";
import { cutPage, parsePage } from "./page.ts";
import { changeCluster } from "../inventory/change-cluster.ts";
import { addInstance, removeInstance } from "../inventory/change-instances.ts";
import { protectCluster } from "../inventory/protect-cluster.ts";
import type { Start } from "./start.ts";
import { endWalArchive, moveWalArchive, readWindows, walMethods } from "./wal-methods.ts";

export function clusterService(options: {
  catalog: Catalog;
  masterKey: KeyObject;
  start: Start;
}): ServiceImpl<typeof ClusterService> {
  const { catalog, masterKey, start } = options;
  return {
    async createCluster(request, context) {
      const id = await catalog.transaction(async (tx) => {
        const made = await protectCluster(tx, masterKey, request, (resourceId) =>
          claimCreate(tx, context, { request, resourceId }),
        );
        if (made.isNew) await writeAudit(tx, auditedCall(context, request), { id: made.id, name: request.name });
        return made.id;
      });
      return describe(catalog.db, await requireCluster(catalog.db, id));
    },
    async getCluster(request) {
      const record = await requireCluster(catalog.db, request.cluster);
      const message = await describe(catalog.db, record);
      const window = (await readWindows(catalog.db, record.row.id)).at(-1);
      return window === undefined ? message : { ...message, recoveryWindow: window };
    },
    async listClusters(request) {
      const page = parsePage(request.page, 1);
      const records = await listClusters(catalog.db, { after: page.after?.[0], limit: page.size + 1 });
      const { items, nextPageToken } = cutPage(records, page, ({ row }) => [row.name]);
      return { clusters: await describeAll(catalog.db, items), nextPageToken };
    },
    async updateCluster(request, context) {
      const id = await catalog.transaction(async (tx) => {
        const record = await requireLocked(tx, request.cluster);
        requireEtag(request.etag, record.row);
        const { isMoved } = await changeCluster(tx, masterKey, record, request);
        if (isMoved) await moveWalArchive(tx, record.row.id);
        await writeAudit(tx, auditedCall(context, request), record.row);
        return record.row.id;
      });
      return describe(catalog.db, await requireCluster(catalog.db, id));
    },
    async addInstance(request, context) {
      const id = await catalog.transaction(async (tx) => {
        const record = await requireLocked(tx, request.cluster);
        const earlier = await claimCreate(tx, context, { request, resourceId: record.row.id });
        if (earlier !== undefined) return earlier;
        await addInstance(tx, masterKey, record, request);
        await writeAudit(tx, auditedCall(context, request), record.row);
        return record.row.id;
      });
      return describe(catalog.db, await requireCluster(catalog.db, id));
    },
    async removeInstance(request, context) {
      const id = await catalog.transaction(async (tx) => {
        const record = await requireLocked(tx, request.cluster);
        requireEtag(request.etag, record.row);
        await removeInstance(tx, record, request);
        await writeAudit(tx, auditedCall(context, request), record.row);
        return record.row.id;
      });
      return describe(catalog.db, await requireCluster(catalog.db, id));
    },
    checkCluster: (request, context) => start(request, context, (tx) => prepareClusterCheck(tx, request)),
    fixCluster: (request, context) => start(request, context, (tx) => prepareClusterCheck(tx, request)),
    async discoverClusters(request) {
      return { hosts: await discover(catalog.db, request.host) };
    },
    async deleteCluster(request, context) {
      await catalog.transaction((tx) => forget(tx, request, context));
      return {};
    },
    ...walMethods(catalog, start),
  };
}

async function discover(db: Database, reference: string) {
  const only = reference === "" ? undefined : [(await requireHost(db, reference)).id];
  const instances = await listClusterInstances(db);
  const found = (await listFoundClusters(db, only)).filter((one) => findProtection(one, instances) === undefined);
  const names = await hostNames(
    db,
    found.map(({ hostId }) => hostId),
  );
  return [...names].map(([host, hostName]) => ({
    host,
    hostName,
    clusters: found
      .filter(({ hostId }) => hostId === host)
      .map((one) => ({
        endpoint: endpointOf(one),
        major: one.major,
        dataDirectory: one.dataDirectory,
        running: one.running,
        runningUnknown: one.runningUnknown,
      })),
  }));
}

/** The cluster, locked until the transaction ends. Errors: CLUSTER_NOT_FOUND. */
async function requireLocked(tx: Database, reference: string): Promise<ClusterRecord> {
  return (await lockCluster(tx, reference)) ?? fail("CLUSTER_NOT_FOUND", `there is no cluster ${reference}`);
}

async function forget(tx: Database, request: DeleteClusterRequest, context: HandlerContext): Promise<void> {
  const { cluster: reference, etag } = request;
  const record = await requireLocked(tx, reference);
  requireEtag(etag, record.row);
  if (await hasActiveOperations(tx, { clusterId: record.row.id })) {
    fail("CLUSTER_IN_USE", `operations that have not ended use cluster ${record.row.name}`);
  }
  await endWalArchive(tx, record.row.id, false);
  await deleteCluster(tx, record.row.id);
  for (const { passwordSecretId } of record.instances) {
    if (passwordSecretId !== null) await deleteSecret(tx, passwordSecretId);
  }
  await writeAudit(tx, auditedCall(context, request), record.row);
}

async function describe(db: Database, record: ClusterRecord): Promise<Cluster> {
  const [message] = await describeAll(db, [record]);
  if (message === undefined) throw new Error("a cluster has no description");
  return message;
}

async function describeAll(db: Database, records: readonly ClusterRecord[]): Promise<Cluster[]> {
  const clusterIds = records.map(({ row }) => row.id);
  const facts = {
    hostNames: await hostNames(
      db,
      records.flatMap(({ instances }) => instances.map(({ hostId }) => hostId)),
    ),
    lastGoodDumps: await lastGoodDumps(db, { of: "present", clusterIds }),
    lastGoodPhysicals: await lastGoodPhysicals(db, { of: "present", clusterIds }),
  };
  return records.map((record) => clusterMessage(record, facts));
}
