import { create, fromJson } from "@bufbuild/protobuf";
import { RecoveryTargetSchema } from "@coppice/proto/gen/coppice/common/v1/recovery_target";
import {
  type PhysicalPlan,
  PlanPhysicalSpecSchema,
  type RestorePhysicalSpec,
  RestorePhysicalSpecSchema,
} from "@coppice/proto/gen/coppice/control/v1/physical_operation";
import type { PhysicalRestore, RestoreRequest } from "@coppice/proto/gen/coppice/control/v1/restore";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import type { BackupRecord } from "../../catalog/backup.ts";
import type { Database } from "../../catalog/catalog.ts";
import type { ClusterRow } from "../../catalog/cluster.ts";
import { findHost, type HostRow } from "../../catalog/host.ts";
import { listRepositories, type RepositoryRow } from "../../catalog/repository.ts";
import { requireBackup, requireCluster, requireHost, requireRepository } from "../../inventory/require.ts";
import { planRecovery } from "@coppice/proto/kit/recovery/plan";
import type { RecoveryPlan } from "@coppice/proto/kit/recovery/recovery-plan";
import { isReachable, requireReachable } from "../choose-repository.ts";
import type { Prepared } from "../prepared.ts";
import { physicalPlan } from "./physical-plan.ts";
import { mayRead, readablePlan } from "./readable-plan.ts";
import { readRecoveryInput } from "./recovery-input.ts";
import { namedTablespaces, tablespacePlaces } from "./tablespaces.ts";
import { parseTarget, serverTarget } from "@coppice/proto/kit/recovery-point/recovery-target";
import { refuseUnasked } from "@coppice/proto/kit/recovery-point/refuse-unasked";
import { refuseUnreachable } from "@coppice/proto/kit/recovery-point/refuse-unreachable";

/**
 * Resolves a restore of a whole cluster to a point in time. Errors: CLUSTER_NOT_FOUND, HOST_NOT_FOUND, BACKUP_NOT_FOUND,
 * RECOVERY_TARGET_UNREACHABLE with the nearest points, RECOVERY_NOT_AS_ASKED, REPOSITORY_WRONG_HOST, HOST_MAY_NOT_DECRYPT, IDENTITY_MISSING,
 * INVALID_FIELD.
 */
export async function preparePhysicalRestore(
  db: Database,
  request: RestoreRequest,
  physical: PhysicalRestore,
): Promise<Prepared> {
  const { prepared, refuse } = await resolvePhysicalRestore(db, request, physical);
  refuse();
  return prepared;
}

/** The same as a plan: what the catalog says of it, for the host to add to. */
export async function preparePhysicalPlan(
  db: Database,
  request: RestoreRequest,
  physical: PhysicalRestore,
): Promise<Prepared> {
  const { prepared, spec, plan } = await resolvePhysicalRestore(db, request, physical);
  const { exclusiveKey: _, ...rest } = prepared;
  return {
    ...rest,
    spec: { case: "planPhysical", value: create(PlanPhysicalSpecSchema, { restore: spec, plan }) },
  };
}

/**
 * A restore of a data directory: what would be started, its spec alone, and what the catalog says of it; `refuse` fails
 * with RECOVERY_NOT_AS_ASKED where the plan says so.
 */
export async function resolvePhysicalRestore(
  db: Database,
  request: RestoreRequest,
  physical: PhysicalRestore,
): Promise<{ prepared: Prepared; spec: RestorePhysicalSpec; plan: PhysicalPlan; refuse: () => void }> {
  const { row: cluster } = await requireCluster(db, request.cluster);
  const host = await requireHost(db, physical.host);
  const dataDirectory = cleanPath(physical.dataDirectory, "restore.physical.data_directory");
  const target = physical.target ?? create(RecoveryTargetSchema);
  const recovery = await plan(db, { cluster, backupId: request.backup, host, target: parseTarget(target) });
  const repository = await requireRepository(db, recovery.repository);
  const newest = await requireBackup(db, recovery.chain.at(-1) ?? "");
  const told = serverTarget(recovery.serverTarget, target.action);
  const spec = create(RestorePhysicalSpecSchema, {
    cluster: cluster.id,
    clusterName: cluster.name,
    chain: [...recovery.chain],
    repository: recovery.repository,
    walRepository: recovery.walRepository ?? "",
    target,
    serverTarget: told,
    dataDirectory,
    tablespaces: tablespacePlaces(tablespacesOf(newest), physical.tablespaces),
    namedTablespaces: namedTablespaces(tablespacesOf(newest), physical.tablespaces),
    replace: request.replace,
    start: physical.start,
    port: physical.port,
    keepFailed: physical.keepFailed,
    expectedEndLsn: recovery.leastLsn === undefined ? "" : formatLsn(recovery.leastLsn),
    walEndLsn: recovery.walEndLsn === undefined ? "" : formatLsn(recovery.walEndLsn),
    host: host.id,
    hostName: host.name,
    warnings: recovery.warnings.map(({ message }) => message),
  });
  const prepared: Prepared = {
    operationId: newId("op"),
    spec: { case: "restorePhysical", value: spec },
    hostId: host.id,
    clusterId: cluster.id,
    repositoryId: repository.id,
    subject: cluster,
    exclusiveKey: `restore directory ${host.id} ${dataDirectory}`,
    // A WAL increment is none of those that are unpacked.
    backups: [...new Set([...recovery.chain, ...(request.backup === "" ? [] : [request.backup])])],
  };
  const accepted = { isBackupNamed: request.backup !== "", accept: request.accept };
  const { databaseBytes: dataBytes } = newest.row;
  return {
    prepared,
    spec,
    plan: physicalPlan(recovery, { target: told, dataBytes, accepted }),
    refuse: () => refuseUnasked(cluster.name, recovery, accepted),
  };
}

async function plan(
  db: Database,
  {
    cluster,
    backupId,
    host,
    target,
  }: {
    readonly cluster: ClusterRow;
    readonly backupId: string;
    readonly host: HostRow;
    readonly target: ReturnType<typeof parseTarget>;
  },
): Promise<RecoveryPlan> {
  if (backupId !== "") await requirePhysical(db, cluster, backupId);
  const repositories = new Map((await listRepositories(db)).map((row) => [row.id, row]));
  const isUsable = (id: string) => isReachableFrom(repositories.get(id), host);
  const input = await readRecoveryInput(db, { clusterId: cluster.id, backupId, isUsable });
  if (input === undefined) {
    return fail("BACKUP_NOT_FOUND", `cluster ${cluster.name} has no physical backup`, {
      hint: `take one: coppice backup create ${cluster.name} --kind full`,
    });
  }
  if (input.backups.length === 0) await refuseElsewhere(db, cluster, backupId, host);
  const recovery = planRecovery(input, target);
  if (recovery.kind !== "plan") return refuseUnreachable(cluster.name, recovery);
  const isReadable = (id: string) => {
    const row = repositories.get(id);
    return row !== undefined && isReachable(row, host.id) && mayRead(row, host);
  };
  const readable = await readRecoveryInput(db, { clusterId: cluster.id, backupId, isUsable: isReadable });
  return readablePlan(recovery, { target, input, readable: readable ?? input, repositories, host });
}

function isReachableFrom(repository: RepositoryRow | undefined, { id }: HostRow): boolean {
  return repository !== undefined && isReachable(repository, id);
}

async function requirePhysical(db: Database, cluster: ClusterRow, id: string): Promise<void> {
  const { row } = await requireBackup(db, id);
  if (row.clusterId !== cluster.id) fail("BACKUP_NOT_FOUND", `backup ${id} is not one of cluster ${cluster.name}`);
  if (row.kind !== "DUMP") return;
  fail("INVALID_FIELD", `backup ${id} is a dump: no data directory comes of it`, {
    hint: "restore one of its databases with --database, or all of it with --all, into a running cluster",
    fields: [{ field: "restore.backup", expected: "a full or incremental backup", value: id }],
  });
}

/** Every copy is in folders of other hosts. */
async function refuseElsewhere(db: Database, cluster: ClusterRow, backupId: string, host: HostRow): Promise<void> {
  const all = await readRecoveryInput(db, { clusterId: cluster.id, backupId });
  const [copy] = all?.backups ?? [];
  if (copy === undefined) return;
  const repository = await requireRepository(db, copy.repository);
  const home = await findHost(db, repository.homeHostId ?? "");
  requireReachable(
    repository,
    home,
    host,
    `restore on ${home?.name ?? "its home host"}, or take a backup into a repository that ${host.name} reaches`,
  );
}

function tablespacesOf({ row }: BackupRecord) {
  const { content } = fromJson(BackupManifestSchema, row.manifest, { ignoreUnknownFields: true });
  return content.case === "physical" ? content.value.tablespaces : [];
}

/** One spelling for one folder, so that two restores into it know of each other. Errors: INVALID_FIELD. */
export function cleanPath(path: string, field: string): string {
  const clean = path.length > 1 ? path.replace(/\/+$/, "") : path;
  if (clean !== "" && clean !== "/" && !/\/\/|\/\.\.?(\/|$)/.test(clean)) return clean;
  return fail("INVALID_FIELD", `${JSON.stringify(path)} cannot be the place of a restore`, {
    fields: [{ field, expected: "an absolute path without . and .., not the root" }],
  });
}
