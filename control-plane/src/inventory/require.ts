import { fail } from "@coppice/proto/kit/failure";
import { type BackupRecord, findBackup } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import { type ClusterRecord, findCluster } from "../catalog/cluster.ts";
import { findHost, type HostRow } from "../catalog/host.ts";
import { findRepository, type RepositoryRow } from "../catalog/repository.ts";

/** The host of that name or id, or HOST_NOT_FOUND. */
export async function requireHost(db: Database, reference: string): Promise<HostRow> {
  return (await findHost(db, reference)) ?? fail("HOST_NOT_FOUND", `there is no host ${reference}`);
}

/** The cluster of that name or id, or CLUSTER_NOT_FOUND. */
export async function requireCluster(db: Database, reference: string): Promise<ClusterRecord> {
  return (await findCluster(db, reference)) ?? fail("CLUSTER_NOT_FOUND", `there is no cluster ${reference}`);
}

/** The repository of that name or id, or REPOSITORY_NOT_FOUND. */
export async function requireRepository(db: Database, reference: string): Promise<RepositoryRow> {
  return (await findRepository(db, reference)) ?? fail("REPOSITORY_NOT_FOUND", `there is no repository ${reference}`);
}

/** The backup of that id, or BACKUP_NOT_FOUND. */
export async function requireBackup(db: Database, id: string): Promise<BackupRecord> {
  return (await findBackup(db, id)) ?? fail("BACKUP_NOT_FOUND", `there is no backup ${id}`);
}
