import type { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";

/** What the rules look at: the catalog at one moment. */
export interface HealthFacts {
  readonly hosts: readonly HostFact[];
  readonly clusters: readonly ClusterFact[];
  /** Newest backups first. */
  readonly damagedCopies: readonly DamagedCopyFact[];
  readonly repositories: readonly RepositoryFact[];
  readonly walArchives: readonly WalArchiveFact[];
  readonly unledArchives: readonly UnledArchiveFact[];
  readonly lostWal: readonly LostWalFact[];
  readonly strayArchives: readonly StrayArchiveFact[];
  readonly leftovers: readonly LeftoverFact[];
  readonly heldDatabases: readonly HeldDatabaseFact[];
  readonly stalledOperations: readonly StalledFact[];
}

/** Work that an agent that is connected has told nothing new of for long. */
export interface StalledFact {
  readonly operationId: string;
  /** Case of its spec, such as create_backup. */
  readonly kind: string;
  /** Whether somebody has asked for its end. */
  readonly isCancelled: boolean;
  /** Null of what is of no cluster. */
  readonly clusterName: string | null;
  readonly hostName: string;
  /** What was told last that it does, and what to; empty before. */
  readonly phase: string;
  readonly item: string;
  readonly since: Date;
}

/** A database that a restore has left beside, and that waits for longer than one who looks at it takes. */
export interface HeldDatabaseFact {
  /** Operation that left it. */
  readonly operationId: string;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly name: string;
  /** The one that it waits beside. */
  readonly target: string;
  readonly since: Date;
}

/** WAL that is archived, and that no good backup leads into. */
export interface UnledArchiveFact {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly repositoryName: string;
  /** Whether there is a good full backup of the server elsewhere, or of before. */
  readonly isBackedUp: boolean;
  readonly since: Date;
}

/** A stretch of archived WAL that a verification found damaged or gone, while a backup is kept that begins before its end. */
export interface LostWalFact {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly repositoryName: string;
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  readonly foundTime: Date;
}

/** WAL that an agent archives, and that the catalog does not want of it. */
export interface StrayArchiveFact {
  readonly clusterId: string;
  /** As the agent calls it. */
  readonly clusterName: string;
  readonly hostName: string;
  readonly since: Date;
  /** What the catalog knows of the cluster: nothing, that it is there, or that an agent of another host archives it. */
  readonly known: "no" | "cluster" | "archived";
}

/** What a server keeps WAL by for an archive that has ended, and its agent could not take away yet. */
export interface LeftoverFact {
  readonly clusterId: string;
  readonly clusterName: string;
  readonly hostName: string;
  readonly slot: string;
  /** Whether an archive_command that nobody answers may be left, too. */
  readonly isCommanded: boolean;
  readonly problem: string;
  readonly since: Date;
  /** Of which server WAL of the cluster is archived now, by another slot. */
  readonly present: "none" | "same server" | "other server";
}

/** WAL of a cluster that is to be archived. */
export interface WalArchiveFact {
  /** Id and name of the cluster. */
  readonly id: string;
  readonly name: string;
  /** When its agent told last; null before the first time. */
  readonly reportTime: Date | null;
  /** Why nothing is archived, and since when that is known; null while all is well. */
  readonly trouble: { readonly message: string; readonly since: Date } | null;
  /** wal_status of its slot; empty where there is none. */
  readonly slotStatus: string;
  /** The host whose agent owns it and has not acknowledged yet that another one goes on; null while it is held. */
  readonly awaited: { readonly hostName: string; readonly isConnected: boolean; readonly since: Date } | null;
  /** The host whose agent archives it while that is connected, and since when it is, and may archive; null while it is not. */
  readonly present: { readonly hostName: string; readonly since: Date } | null;
  /** How far it is behind its server, and since when it is more than a few segments, by the server's clock; null when not. */
  readonly behind: {
    readonly bytes: bigint;
    readonly ageMs: number;
    readonly since: Date;
    /** After so long it should have been stored. */
    readonly maxAgeMs: number;
    /** Whether any of it was stored in the last minute. */
    readonly isMoving: boolean;
  } | null;
  /** WAL that is missing, behind which no backup begins. */
  readonly gap: { readonly startLsn: bigint; readonly endLsn: bigint; readonly since: Date } | null;
}

export interface HostFact {
  readonly id: string;
  readonly name: string;
  readonly state: "PENDING" | "CONNECTED" | "UNKNOWN" | "STOPPED";
  readonly stateTime: Date;
  /** Clusters that cannot be worked on without its agent. */
  readonly clusters: number;
}

export interface ClusterFact {
  readonly id: string;
  readonly name: string;
  readonly createTime: Date;
  readonly hasGoodBackup: boolean;
  readonly servers: readonly ServerFact[];
}

/** One server of a cluster. */
export interface ServerFact extends Reachability {
  readonly id: string;
  readonly hostName: string;
  /** Whether it is the one that work on the cluster is done on. */
  readonly isMain: boolean;
  /** Whether it said that it is a primary when it was last looked at, and its agent is connected. */
  readonly isPrimary: boolean;
  /** When it was last looked at; null before the first time. */
  readonly seenTime: Date | null;
}

/** A stored backup in which the last verification found damage. */
export interface DamagedCopyFact {
  readonly backupId: string;
  readonly clusterId: string;
  readonly clusterName: string;
  readonly repositoryName: string;
  readonly problem: string;
  /** When it was last known to be good. */
  readonly goodTime: Date;
}

export interface RepositoryFact extends Reachability {
  readonly id: string;
  readonly name: string;
}

/** How the last attempt to reach something ended. */
export interface Reachability {
  /** Since when attempts have failed; null while the last one succeeded, or before the first. */
  readonly unreachableSince: Date | null;
  readonly problem: string;
}

/** Something that is wrong now. */
export interface Finding {
  readonly rule: string;
  /** Id and name of what it is about. */
  readonly subject: string;
  readonly subjectName: string;
  readonly severity: Severity;
  readonly since: Date;
  readonly message: string;
  /** The command that mends it, or finds out more. */
  readonly fix: string;
}

/** A rule: facts and now to findings. */
export type Rule = (facts: HealthFacts, now: Date) => Finding[];
