import { create, fromJson } from "@bufbuild/protobuf";
import {
  BackupAddressSchema,
  type RepositoryTarget,
  RepositoryTargetSchema,
} from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { ConnectionSchema, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import type { StoredObject } from "@coppice/proto/gen/coppice/repository/v1/stored_object";
import { fail } from "@coppice/proto/kit/failure";
import { findBackup, listBackups } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import { findCluster } from "../catalog/cluster.ts";
import { findRepository } from "../catalog/repository.ts";
import type { BackupFact, ClusterFact, Facts, References } from "./kinds/kind.ts";

/**
 * Looks up what the command of an operation needs. Errors: CLUSTER_NOT_FOUND, REPOSITORY_NOT_FOUND, BACKUP_NOT_FOUND
 * when it was removed meanwhile.
 */
export async function lookUpFacts(db: Database, hostId: string, references: References): Promise<Facts> {
  const { clusterId, repositoryId, backup } = references;
  return {
    ...(clusterId === undefined ? {} : { cluster: await clusterFact(db, hostId, clusterId) }),
    ...(repositoryId === undefined ? {} : { repository: await repositoryTarget(db, repositoryId) }),
    ...(backup === undefined ? {} : { backup: await backupFact(db, backup.backupId, backup.repositoryId) }),
    ...(clusterId === undefined || repositoryId === undefined
      ? {}
      : { isClusterStored: (await listBackups(db, { clusterId, repositoryId, limit: 1 })).length > 0 }),
  };
}

async function clusterFact(db: Database, hostId: string, clusterId: string): Promise<ClusterFact> {
  const record = await findCluster(db, clusterId);
  const instance = record?.instances.find((one) => one.hostId === hostId) ?? record?.instances[0];
  if (record === undefined || instance === undefined) {
    return fail("CLUSTER_NOT_FOUND", `the cluster ${clusterId} was removed meanwhile`);
  }
  const present = record.incarnations.toSorted((a, b) => b.lastSeenTime.getTime() - a.lastSeenTime.getTime())[0];
  return {
    name: record.row.name,
    connection: create(ConnectionSchema, {
      endpoint: fromJson(EndpointSchema, instance.endpoint),
      passwordSecret: instance.passwordSecretId ?? "",
    }),
    systemIdentifier: present?.systemIdentifier ?? "",
  };
}

async function repositoryTarget(db: Database, repositoryId: string): Promise<RepositoryTarget> {
  const row = await findRepository(db, repositoryId);
  if (row === undefined) return fail("REPOSITORY_NOT_FOUND", `the repository ${repositoryId} was removed meanwhile`);
  return create(RepositoryTargetSchema, {
    repositoryId,
    name: row.name,
    location: fromJson(RepositoryLocationSchema, row.location),
  });
}

async function backupFact(db: Database, backupId: string, repositoryId: string): Promise<BackupFact> {
  const record = await findBackup(db, backupId);
  const copy = record?.copies.find((one) => one.repositoryId === repositoryId);
  if (record === undefined || copy === undefined) {
    return fail("BACKUP_NOT_FOUND", `the backup ${backupId} was deleted meanwhile`);
  }
  const manifest = fromJson(BackupManifestSchema, record.row.manifest, { ignoreUnknownFields: true });
  const dump = manifest.content.case === "dump" ? manifest.content.value : undefined;
  const streams = [dump?.globals, ...(dump?.databases.map(({ stream }) => stream) ?? [])];
  const objects: StoredObject[] = [
    ...streams.flatMap((stream) => stream?.objects ?? []),
    ...(manifest.recipe ? [manifest.recipe] : []),
  ];
  return {
    address: create(BackupAddressSchema, {
      repository: await repositoryTarget(db, repositoryId),
      clusterId: record.row.clusterId,
      backupId,
      folder: copy.folder,
      manifestSha256: copy.manifestSha256,
    }),
    keys: objects.map(({ key }) => key),
  };
}
