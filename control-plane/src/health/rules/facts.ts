import type { Severity } from "@coppice/proto/gen/coppice/control/v1/finding";

/** What the rules look at: the catalog at one moment. */
export interface HealthFacts {
  readonly hosts: readonly HostFact[];
  readonly clusters: readonly ClusterFact[];
  readonly repositories: readonly RepositoryFact[];
}

export interface HostFact {
  readonly id: string;
  readonly name: string;
  readonly state: "PENDING" | "CONNECTED" | "UNKNOWN" | "STOPPED";
  readonly stateTime: Date;
  /** Clusters that cannot be worked on without its agent. */
  readonly clusters: number;
}

export interface ClusterFact extends Reachability {
  readonly id: string;
  readonly name: string;
  readonly createTime: Date;
  readonly hasGoodBackup: boolean;
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
