import type { Target } from "./target.ts";
import type { UnusableBackup } from "./usable-chains.ts";

/** What recovery to a target would do. Times are microseconds since 1970. */
export interface RecoveryPlan {
  readonly kind: "plan";
  /** Backups that are unpacked, the full one first (bkp_…), and where they are (rep_…). */
  readonly chain: readonly string[];
  readonly repository: string;
  /** Where the WAL is (rep_…); undefined when what is inside the backup is enough. */
  readonly walRepository: string | undefined;
  /** When the newest of the chain had ended. */
  readonly backupTimeUs: bigint;
  /** Timelines that are replayed, the backup's first. */
  readonly timelines: readonly number[];
  /** First position that is replayed. */
  readonly startLsn: bigint;
  /** Where recovery ends, as far as is known beforehand. */
  readonly endLsn: bigint | undefined;
  /** Recovery that ends before it has failed, but for the record that it lies in; undefined where that is not known. */
  readonly leastLsn: bigint | undefined;
  /** Nothing is replayed from here on, whatever comes. */
  readonly mostLsn: bigint;
  /** Segments that are replayed at most, and their bytes. */
  readonly segments: bigint;
  readonly walBytes: bigint;
  /** Bytes of the chain as stored. */
  readonly storedBytes: bigint;
  /** Everything that was committed on these timelines up to this time is there; undefined where that is not known. */
  readonly completeUntilUs: bigint | undefined;
  /** What the server is told; its timeline is always named. */
  readonly serverTarget: Target & { readonly timeline: number };
  /** The server must not be given WAL from here on: the archive may hold more by then. With a target of latest only. */
  readonly walEndLsn: bigint | undefined;
  readonly warnings: readonly PlanWarning[];
}

/** What one should know before carrying out a plan. */
export interface PlanWarning {
  readonly code:
    | "clock-set-back"
    | "later-commit-unknown"
    | "later-record-unknown"
    | "may-not-decrypt"
    | "position-unknown"
    | "timeline-not-followed"
    | "wal-out-of-reach"
    | "time-of-other-timeline"
    | "time-unknown"
    | "timeline-of-time";
  readonly message: string;
}

/** Why a target cannot be reached, and what can. */
export interface Unreachable {
  readonly kind: "unreachable";
  readonly reason:
    | "no-backup"
    | "backup-unusable"
    | "timeline-unknown"
    | "too-early"
    | "too-late"
    | "in-gap"
    | "not-known";
  readonly message: string;
  /** The nearest points that can be reached, on either side. */
  readonly before: ReachablePoint | undefined;
  readonly after: ReachablePoint | undefined;
  /** Copies that do not count. */
  readonly unusable: readonly UnusableBackup[];
  /** Timelines that are known, where that is what is wrong. */
  readonly timelines?: readonly number[];
}

/** A point that can be planned: by its time, or else everything before its position. */
export interface ReachablePoint {
  readonly timeline: number;
  readonly lsn: bigint;
  /** Undefined where only the position is known, or only a backup's end can be reached. */
  readonly timeUs: bigint | undefined;
  /** Of a point that is the end of this backup (bkp_…). */
  readonly backup: string | undefined;
}
