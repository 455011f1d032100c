import type { ClusterFacts } from "@coppice/proto/gen/coppice/agent/v1/check_cluster";
import type { ClusterFile } from "@coppice/proto/gen/coppice/repository/v1/cluster_file";
import type { BackupManifest } from "@coppice/proto/gen/coppice/repository/v1/manifest";

/** What the catalog learns from an operation, as data: written in one transaction with the operation's new state. */
export type CatalogChange =
  | { readonly is: "clusterFound"; readonly file: ClusterFile }
  | { readonly is: "backupStored"; readonly backup: StoredBackup }
  | {
      readonly is: "copyVerified";
      readonly backupId: string;
      readonly repositoryId: string;
      /** What is wrong with it; empty when every byte matched. */
      readonly problem: string;
    }
  | {
      readonly is: "walVerified";
      readonly clusterId: string;
      readonly repositoryId: string;
      readonly systemIdentifier: string;
      /** Whether all of it was looked into: only then is what was found before, and not now, sound again. */
      readonly isThorough: boolean;
      /** What recovery cannot replay. */
      readonly lost: readonly { readonly timeline: number; readonly startLsn: bigint; readonly endLsn: bigint }[];
    }
  | { readonly is: "copyDeleting"; readonly backupId: string; readonly repositoryId: string }
  | { readonly is: "copyDeleted"; readonly backupId: string; readonly repositoryId: string }
  | { readonly is: "clusterSeen"; readonly clusterId: string; readonly facts: ClusterFacts }
  | { readonly is: "clusterTried"; readonly clusterId: string; readonly problem: string | undefined }
  | { readonly is: "repositoryTried"; readonly repositoryId: string; readonly problem: string | undefined };

/** A backup whose manifest lies in the repository. */
export interface StoredBackup {
  readonly id: string;
  readonly clusterId: string;
  readonly repositoryId: string;
  readonly folder: string;
  readonly manifest: BackupManifest;
  readonly manifestSha256: string;
  readonly storedBytes: bigint;
  readonly recipe: string;
  /** Whether it is of the default set of databases: only such a backup counts as last good. */
  readonly defaultDatabases: boolean;
}
