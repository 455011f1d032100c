import { create } from "@bufbuild/protobuf";
import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import { type BackupAddress, BackupAddressSchema } from "@coppice/proto/gen/coppice/agent/v1/repository_target";
import type { FailureDetail } from "@coppice/proto/gen/coppice/common/v1/failure";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";
import { type CatalogChange, serverOf } from "./catalog-change.ts";
import { type Facts, type References, required } from "./kind.ts";
import { reachability } from "./reachability.ts";

/** What the specs of all kinds of backups say of the backup that will come of them. */
export interface BackupToStore {
  readonly cluster: string;
  readonly repository: string;
  readonly repositoryName: string;
  readonly backup: string;
  readonly folder: string;
}

/** Which server a backup is taken of, as its spec says; that of an older control plane does not. */
export interface BackupServer {
  readonly instance: string;
  readonly standby?: boolean | undefined;
}

/** The same as what has to be looked up. */
export function serverNeeds(
  spec: Pick<BackupToStore, "cluster"> & BackupServer,
): Pick<References, "clusterId" | "instanceId" | "standby"> {
  return { ...serverOf(spec), ...(spec.standby === undefined ? {} : { standby: spec.standby }) };
}

/** What agents answer of any kind of backup. */
export interface BackupAnswer {
  readonly manifestSha256: string;
  readonly storedBytes: bigint;
  readonly recipe: string;
  readonly facts?: ClusterFacts | undefined;
}

/** What an attempt at a backup may have left, for people to read. */
export function leftOfBackup({ backup, folder, repositoryName }: BackupToStore): string {
  return `objects of ${backup} in ${folder} of repository ${repositoryName}, or all of it, which the catalog does not list`;
}

/** Where the backup is to be stored. */
export function addressOfBackup({ cluster, backup, folder }: BackupToStore, facts: Facts): BackupAddress {
  return create(BackupAddressSchema, {
    repository: required(facts.repository),
    clusterId: cluster,
    backupId: backup,
    folder,
  });
}

/** Why the manifest is not that of the backup; undefined when it is. */
export function foreignProblem({ backup, cluster }: BackupToStore, manifest: BackupManifest): string | undefined {
  if (manifest.backupId !== backup) return `its manifest is that of ${manifest.backupId}`;
  if (manifest.clusterId !== cluster) return `its manifest is of the cluster ${manifest.clusterId}`;
  return undefined;
}

/** Why its digest is none; undefined when it is one. */
export function digestProblem({ manifestSha256 }: Pick<BackupAnswer, "manifestSha256">): string | undefined {
  return /^[0-9a-f]{64}$/.test(manifestSha256) ? undefined : "its manifest has no digest";
}

/** What the catalog learns from a backup of which nothing is stored: also which server is not what it was taken for. */
export function failedBackupChanges(
  spec: BackupToStore & BackupServer,
  failure: FailureDetail | undefined,
): CatalogChange[] {
  const { repository: repositoryId, instance, standby } = spec;
  const server = serverOf(spec);
  const role = standby ? "PRIMARY" : "STANDBY";
  // What is there is another cluster: nothing is to be had of it until somebody has looked.
  const isOther = instance !== "" && failure?.reason === "CLUSTER_CHANGED";
  return [
    ...reachability({ ...server, repositoryId }, failure),
    ...(isOther ? [{ is: "clusterTried", ...server, problem: failure.message } as const] : []),
    ...(failure?.reason === "INSTANCE_ROLE_CHANGED" ? [{ is: "roleSeen", ...server, role } as const] : []),
  ];
}

/** What the catalog learns from a stored backup. Whatever it lacks says nothing against connection and repository. */
export function storedBackupChanges(
  spec: BackupToStore & BackupServer,
  { manifestSha256, storedBytes, recipe, facts }: BackupAnswer,
  { manifest, defaultDatabases }: { readonly manifest: BackupManifest; readonly defaultDatabases: boolean },
): CatalogChange[] {
  const { cluster: clusterId, repository: repositoryId, backup: id, folder } = spec;
  const server = serverOf(spec);
  return [
    ...reachability({ ...server, repositoryId }, undefined),
    ...(facts ? [{ is: "clusterSeen", ...server, facts } as const] : []),
    {
      is: "backupStored",
      backup: { id, clusterId, repositoryId, folder, manifest, manifestSha256, storedBytes, recipe, defaultDatabases },
    },
  ];
}
