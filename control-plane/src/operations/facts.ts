import { create, fromJson } from "@bufbuild/protobuf";
import {
  BackupAddressSchema,
  type RepositoryTarget,
  RepositoryTargetSchema,
  StorageSecretsSchema,
} from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import { ConnectionSchema, EndpointSchema } from "@coppice/proto/gen/coppice/common/v1/connection";
import { RepositoryLocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import { RepositoryEncryptionSchema } from "@coppice/proto/gen/coppice/control/v1/repository";
import { BackupManifestSchema } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { fail } from "@coppice/proto/kit/failure";
import { listActiveSpecs } from "../catalog/active-operations.ts";
import { findBackup, listFolders, listStoredClusters } from "../catalog/backup.ts";
import type { Database } from "../catalog/catalog.ts";
import { findCluster, instanceOn, mainInstance } from "../catalog/cluster.ts";
import { findHost } from "../catalog/host.ts";
import { findRepository, type RepositoryRow } from "../catalog/repository.ts";
import type { BackupFact, ClusterFact, Facts, References, RepositoryContents } from "./kinds/kind.ts";
import { listServers } from "../catalog/physical/copies.ts";
import { mayDecrypt, requireMayDecrypt } from "../secrets/may-decrypt.ts";
import { storedObjects } from "./kinds/stored-objects.ts";
import { parseStored } from "./spec.ts";

/**
 * Looks up what the command of an operation needs. Errors: CLUSTER_NOT_FOUND, REPOSITORY_NOT_FOUND, BACKUP_NOT_FOUND
 * when it was removed meanwhile.
 */
export async function lookUpFacts(db: Database, hostId: string, references: References): Promise<Facts> {
  const {
    clusterId,
    instanceId,
    standby,
    liveClusterId,
    repositoryId,
    backup,
    chain,
    walRepositoryId,
    contents,
    ownSecret,
  } = references;
  const target = (id: string) => repositoryTarget(db, id, hostId, references);
  return {
    ...(clusterId === undefined ? {} : { cluster: await clusterFact(db, hostId, { clusterId, instanceId, standby }) }),
    ...(liveClusterId === undefined ? {} : { live: await clusterFact(db, hostId, { clusterId: liveClusterId }) }),
    ...(repositoryId === undefined
      ? {}
      : {
          repository: await target(repositoryId),
          isHome: (await findRepository(db, repositoryId))?.homeHostId === hostId,
        }),
    ...(backup === undefined ? {} : { backup: await backupFact(db, backup, await target(backup.repositoryId)) }),
    ...(chain === undefined ? {} : { chain: await chainFact(db, chain, target) }),
    ...(walRepositoryId === undefined
      ? {}
      : { walRepository: await repositoryTarget(db, walRepositoryId, hostId, { ...references, purposes: ["read"] }) }),
    ...(ownSecret === undefined ? {} : { ownSecret }),
    ...(contents && repositoryId !== undefined ? { contents: await contentsFact(db, repositoryId) } : {}),
    ...(clusterId === undefined || repositoryId === undefined
      ? {}
      : { storedClusters: await listStoredClusters(db, repositoryId) }),
  };
}

interface ServerNeeds {
  readonly clusterId: string;
  readonly instanceId?: string | undefined;
  readonly standby?: boolean | undefined;
}

async function clusterFact(
  db: Database,
  hostId: string,
  { clusterId, instanceId, standby }: ServerNeeds,
): Promise<ClusterFact> {
  const record = await findCluster(db, clusterId);
  const main = record && mainInstance(record);
  if (record === undefined || main === undefined) {
    return fail("CLUSTER_NOT_FOUND", `the cluster ${clusterId} was removed meanwhile`);
  }
  const { instances } = record;
  const instance =
    instanceId === undefined ? (instanceOn(record, hostId) ?? main) : instances.find(({ id }) => id === instanceId);
  if (instance === undefined || (instanceId !== undefined && instance.hostId !== hostId)) {
    return fail(
      "INSTANCE_NOT_FOUND",
      `the server ${instanceId} of cluster ${record.row.name} was removed or moved meanwhile`,
    );
  }
  const present = record.incarnations.toSorted((a, b) => b.lastSeenTime.getTime() - a.lastSeenTime.getTime())[0];
  return {
    name: record.row.name,
    connection: create(ConnectionSchema, {
      endpoint: fromJson(EndpointSchema, instance.endpoint),
      passwordSecret: instance.passwordSecretId ?? "",
      ...(standby === undefined ? {} : { standby }),
    }),
    isAlone: instances.length === 1,
    systemIdentifier: present?.systemIdentifier ?? "",
  };
}

/** Refers to no secret but those that the work needs; to an identity only where the host may have it. */
async function repositoryTarget(
  db: Database,
  repositoryId: string,
  hostId: string,
  { purposes = [], decrypts = false }: References,
): Promise<RepositoryTarget> {
  const row = await findRepository(db, repositoryId);
  if (row === undefined) return fail("REPOSITORY_NOT_FOUND", `the repository ${repositoryId} was removed meanwhile`);
  const encryption = row.encryption === null ? undefined : fromJson(RepositoryEncryptionSchema, row.encryption);
  const isDecrypted = decrypts !== false && encryption !== undefined && (await getsIdentity(db, row, hostId, decrypts));
  const all = { write: row.writeSecretId, read: row.readSecretId, delete: row.deleteSecretId };
  const secrets = create(StorageSecretsSchema);
  for (const purpose of purposes) secrets[purpose] = all[purpose] ?? all.write ?? "";
  return create(RepositoryTargetSchema, {
    repositoryId,
    name: row.name,
    location: fromJson(RepositoryLocationSchema, row.location),
    secrets,
    recipients: encryption?.recipients ?? [],
    identitySecret: (isDecrypted ? row.identitySecretId : null) ?? "",
  });
}

async function getsIdentity(
  db: Database,
  repository: RepositoryRow,
  hostId: string,
  decrypts: true | "whereAllowed",
): Promise<boolean> {
  const host = (await findHost(db, hostId)) ?? fail("HOST_NOT_FOUND", "the host is gone");
  if (decrypts === "whereAllowed") return mayDecrypt(host);
  requireMayDecrypt(repository, host);
  return true;
}

async function contentsFact(db: Database, repositoryId: string): Promise<RepositoryContents> {
  const writing = (await listActiveSpecs(db, repositoryId)).map((json) => parseStored(json).spec);
  return {
    knownFolders: await listFolders(db, repositoryId),
    deletingFolders: await listFolders(db, repositoryId, "DELETING"),
    knownServers: await listServers(db),
    activeFolders: writing.flatMap((spec) =>
      spec.case === "createBackup" || spec.case === "createPhysicalBackup"
        ? `${spec.value.cluster}/${spec.value.folder}`
        : [],
    ),
  };
}

async function chainFact(
  db: Database,
  chain: NonNullable<References["chain"]>,
  target: (repositoryId: string) => Promise<RepositoryTarget>,
): Promise<BackupFact[]> {
  const facts: BackupFact[] = [];
  for (const copy of chain) facts.push(await backupFact(db, copy, await target(copy.repositoryId)));
  return facts;
}

async function backupFact(
  db: Database,
  { backupId, repositoryId }: { backupId: string; repositoryId: string },
  repository: RepositoryTarget,
): Promise<BackupFact> {
  const record = await findBackup(db, backupId);
  const copy = record?.copies.find((one) => one.repositoryId === repositoryId);
  if (record === undefined || copy === undefined) {
    return fail("BACKUP_NOT_FOUND", `the backup ${backupId} was deleted meanwhile`);
  }
  const manifest = fromJson(BackupManifestSchema, record.row.manifest, { ignoreUnknownFields: true });
  return {
    address: create(BackupAddressSchema, {
      repository,
      clusterId: record.row.clusterId,
      backupId,
      folder: copy.folder,
      manifestSha256: copy.manifestSha256,
    }),
    keys: storedObjects(manifest).map(({ key }) => key),
  };
}
