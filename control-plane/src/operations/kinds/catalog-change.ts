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
  | (WalPlace & {
      readonly is: "walVerified";
      /** Whether all of it was looked into: only then is what was found before, and not now, sound again. */
      readonly isThorough: boolean;
      /** What recovery cannot replay. */
      readonly lost: readonly WalRun[];
      /** What it can. */
      readonly sound: readonly WalRun[];
    })
  | (WalPlace & {
      /** It is about to be deleted, and counts for nothing from now on. */
      readonly is: "walDeleting";
      readonly runs: readonly WalRun[];
    })
  | (WalPlace & {
      /** It was to be deleted, and is there. */
      readonly is: "walFound";
      readonly runs: readonly WalRun[];
    })
  | (WalPlace & {
      /** It lies in a repository that was read; what the catalog knows besides stays. */
      readonly is: "walScanned";
      readonly runs: readonly WalRun[];
      readonly anchors: readonly { readonly timeline: number; readonly timeUs: bigint; readonly lsn: bigint }[];
      readonly histories: readonly { readonly timeline: number; readonly content: string }[];
    })
  | { readonly is: "copyDeleting"; readonly backupId: string; readonly repositoryId: string }
  | { readonly is: "copyDeleted"; readonly backupId: string; readonly repositoryId: string }
  | (ServerPlace & { readonly is: "clusterSeen"; readonly facts: ClusterFacts })
  | (ServerPlace & { readonly is: "clusterTried"; readonly problem: string | undefined })
  | (ServerPlace & {
      /** It is not what it was taken for, or it is now. */
      readonly is: "roleSeen";
      readonly role: "PRIMARY" | "STANDBY";
    })
  | { readonly is: "repositoryTried"; readonly repositoryId: string; readonly problem: string | undefined };

/** A server of a cluster: its main one where it is not named. */
export interface ServerPlace {
  readonly clusterId: string;
  readonly instanceId?: string;
}

/** The server that a spec names; one of an older control plane names none. */
export function serverOf({ cluster, instance }: { readonly cluster: string; readonly instance: string }): ServerPlace {
  return { clusterId: cluster, ...(instance === "" ? {} : { instanceId: instance }) };
}

/** Archived WAL of one server. */
export interface WalPlace {
  readonly clusterId: string;
  readonly repositoryId: string;
  readonly systemIdentifier: string;
}

/** WAL of one timeline without a hole. */
export interface WalRun {
  readonly timeline: number;
  readonly startLsn: bigint;
  /** First position after it. */
  readonly endLsn: bigint;
}

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
