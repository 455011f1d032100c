import { create, fromJson } from "@bufbuild/protobuf";
import { type CreateRestoreSpec, CreateRestoreSpecSchema } from "@coppice/proto/gen/coppice/control/v1/operation";
import type { RestoreRequest } from "@coppice/proto/gen/coppice/control/v1/restore";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail } from "@coppice/proto/kit/failure";
import { newId } from "@coppice/proto/kit/id";
import { type BackupRecord, lastGoodDumps, listBackups } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import type { ClusterRow } from "../catalog/cluster.ts";
import { findHost } from "../catalog/host.ts";
import type { RepositoryRow } from "../catalog/repository.ts";
import { requireBackup, requireCluster, requireHost } from "../inventory/require.ts";
import { placeCopies } from "./choose-copy.ts";
import { isReachable, type NamedHost, requireReachable } from "./choose-repository.ts";
import type { Prepared } from "./prepared.ts";
import { primaryInstance } from "./primary-instance.ts";
import { formatKeptDatabase, formatStagedDatabase } from "./restore-names.ts";

/** A restore that may start, or be planned. */
export interface PreparedRestore extends Omit<Prepared, "spec"> {
  readonly restore: CreateRestoreSpec;
}

/**
 * Resolves what to restore and where to. Errors: CLUSTER_NOT_FOUND, BACKUP_NOT_FOUND also when the cluster has no good
 * one, DATABASE_NOT_IN_BACKUP, REPOSITORY_WRONG_HOST, NOT_SUPPORTED.
 */
export async function prepareRestore(db: Database, request: RestoreRequest, now: Date): Promise<PreparedRestore> {
  const { row: source } = await requireCluster(db, request.cluster);
  const backup = await chooseBackup(db, source, request.backup);
  requireDatabase(backup, request.database);
  const target = await requireCluster(db, request.targetCluster || source.id);
  const host = await requireHost(db, primaryInstance(target).hostId);
  const repository = await chooseSource(db, backup, host);
  const operationId = newId("op");
  const targetDatabase = request.targetDatabase || request.database;
  return {
    operationId,
    restore: create(CreateRestoreSpecSchema, {
      backup: backup.row.id,
      repository: repository.id,
      cluster: source.id,
      database: request.database,
      targetCluster: target.row.id,
      targetClusterName: target.row.name,
      targetDatabase,
      replace: request.replace,
      jobs: request.jobs || 1,
      keptDatabase: request.replace ? formatKeptDatabase(targetDatabase, now) : "",
      stagedDatabase: formatStagedDatabase(operationId),
    }),
    hostId: host.id,
    clusterId: target.row.id,
    repositoryId: repository.id,
    subject: target.row,
    backups: [backup.row.id],
  };
}

async function chooseBackup(db: Database, cluster: ClusterRow, id: string): Promise<BackupRecord> {
  if (id !== "") {
    const backup = await requireBackup(db, id);
    if (backup.row.clusterId === cluster.id) return backup;
    return fail("BACKUP_NOT_FOUND", `backup ${id} is not one of cluster ${cluster.name}`);
  }
  const last = (await lastGoodDumps(db, { of: "any", clusterIds: [cluster.id] })).get(cluster.id);
  if (last !== undefined) return requireBackup(db, last.backupId);
  const [some] = await listBackups(db, { clusterId: cluster.id, limit: 1 });
  return fail("BACKUP_NOT_FOUND", `cluster ${cluster.name} has no ${some === undefined ? "" : "good "}backup`, {
    hint:
      some === undefined
        ? `take one: coppice backup create ${cluster.name}`
        : `look for one that holds the database: coppice backup list --cluster ${cluster.name}, and name it with --backup`,
  });
}

function requireDatabase({ row }: BackupRecord, name: string): void {
  const { content } = fromJson(BackupManifestSchema, row.manifest, { ignoreUnknownFields: true });
  if (content.case !== "dump") fail("NOT_SUPPORTED", `backup ${row.id} is no dump: only dumps can be restored yet`);
  const { databases, missing } = content.value;
  if (databases.some((database) => database.name === name)) return;
  const why = missing.find((database) => database.name === name)?.message ?? "";
  const held = databases.slice(0, 20).map((database) => JSON.stringify(database.name));
  fail(
    "DATABASE_NOT_IN_BACKUP",
    `backup ${row.id} does not hold database ${JSON.stringify(name)}${why === "" ? "" : `: ${why}`}`,
    { hint: held.length === 0 ? "it holds no database" : `it holds ${held.join(", ")}` },
  );
}

/**
 * A copy that the target's host reaches, an undamaged one first. One whose deletion did not come to its end may be whole
 * still: its manifest, which goes first, says so. While a deletion runs its lease keeps others away.
 */
async function chooseSource(db: Database, backup: BackupRecord, host: NamedHost): Promise<RepositoryRow> {
  const placed = await placeCopies(db, backup);
  const reachable = placed.filter(({ repository }) => isReachable(repository, host.id));
  const chosen = reachable.find(({ copy }) => copy.state === "STORED") ?? reachable[0];
  if (chosen !== undefined) return chosen.repository;
  const [other] = placed;
  if (other === undefined) return fail("BACKUP_NOT_FOUND", `backup ${backup.row.id} has no copy`);
  const home = await findHost(db, other.repository.homeHostId ?? "");
  const homeName = home?.name ?? "its home host";
  requireReachable(
    other.repository,
    home,
    host,
    `restore into a cluster of ${homeName}, or take a backup into a repository that ${host.name} reaches`,
  );
  return other.repository;
}
