import type { Extent } from "./extents.ts";
import type { TimelineHistory } from "./timeline-history.ts";

/** What is known of one server's physical backups and archived WAL. Times are microseconds since 1970. */
export interface RecoveryInput {
  /** The server: backups and extents of another one do not count. */
  readonly systemIdentifier: string;
  /** Size of its WAL segments. */
  readonly segmentBytes: bigint;
  /** One for each copy; a backup with copies in two repositories is there twice. */
  readonly backups: readonly PhysicalBackup[];
  readonly extents: readonly Extent[];
  readonly histories: readonly TimelineHistory[];
  readonly anchors: readonly Anchor[];
  /** What is known of commits, where it is; without it the anchors alone decide. */
  readonly commits?: readonly CommitSpan[];
  /** Only from this backup (bkp_…). */
  readonly backup?: string;
}

/** A copy of a physical backup. */
export interface PhysicalBackup {
  /** bkp_…. */
  readonly id: string;
  /** Where the copy is (rep_…). */
  readonly repository: string;
  readonly systemIdentifier: string;
  /** A WAL increment unpacks nothing: it is reached by replay from its parent. */
  readonly method: "full" | "native" | "wal";
  /** Of an incremental. */
  readonly parent?: string;
  /** Everything that was asked for is in it. */
  readonly complete: boolean;
  readonly state: "STORED" | "DAMAGED" | "DELETING";
  readonly timeline: number;
  /** Where recovery begins. */
  readonly startLsn: bigint;
  /** Where it is consistent; of a WAL increment, the end of its restore point. */
  readonly stopLsn: bigint;
  /** When it began: whatever was committed before is in it, unless it is of a standby. */
  readonly startTimeUs: bigint;
  /** A time at which `stopLsn` had been reached. */
  readonly stopTimeUs: bigint;
  /** The WAL up to `stopLsn` is inside. */
  readonly walEmbedded: boolean;
  /**
   * Of a standby there may be no record after the end, at which a server could see that it is there; and it holds what
   * the standby had replayed, which may be as of long before.
   */
  readonly fromStandby?: boolean;
  /** Name of the restore point at the end of a WAL increment. */
  readonly restorePoint?: string;
  readonly storedBytes: bigint;
}

/** End of WAL at a time, by the server's clock; the clock was read first. */
export interface Anchor {
  readonly timeline: number;
  readonly timeUs: bigint;
  readonly lsn: bigint;
}

/** Times of all commits and aborts in a stretch of WAL, such as a segment. */
export interface CommitSpan {
  readonly timeline: number;
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  /** Absent when there is none in it. */
  readonly times?: { readonly earliestUs: bigint; readonly latestUs: bigint };
}
