import { majorOf } from "../majors.ts";

/** A server as far as defects of its incremental backups depend on it. */
export interface IncrementalServer {
  /** As server_version_num says it: 170008. */
  readonly versionNum: number;
  /** Whether changes of hint bits are written to WAL: by checksums, or by wal_log_hints. */
  readonly logsHints: boolean;
}

/** What a server does wrong, and what to do about it, for people. */
export interface IncrementalDefect {
  /** PostgreSQL 17.7. */
  readonly version: string;
  /** What it does. */
  readonly does: string;
  readonly mend: string;
  /** What mends it with a restart; empty where it takes an upgrade. */
  readonly statements: readonly string[];
}

interface Defect extends Omit<IncrementalDefect, "version"> {
  /** The first minor of each major that has it that does not any more; undefined while there is none. */
  readonly mended?: Readonly<Record<number, number>>;
  readonly affects: (server: IncrementalServer) => boolean;
}

/**
 * What PostgreSQL's own incremental backups of blocks were found to do wrong, of which nothing can be seen in the backup
 * itself. Only what its release notes say, or was seen here.
 */
const defects: readonly Defect[] = [
  {
    // Release notes of 17.8 and 18.2, "Fix incorrect handling of incremental backups of large tables".
    mended: { 17: 8, 18: 2 },
    affects: () => true,
    does: "writes incrementals that cannot be put together when a table of over 1 GB was truncated",
    mend: "upgrade to 17.8 or 18.2 at least, or take them by archived WAL: --method wal",
    statements: [],
  },
  {
    // Seen with 17.11 and 18.6: truncation clears bits of a page of the visibility map that WAL says nothing of. Mails to
    // pgsql-hackers of October 2026 mend it, also for summaries that are made from then on; no release does yet.
    affects: ({ logsHints }) => !logsHints,
    does: "writes incrementals with stale visibility maps while it has neither checksums of pages nor wal_log_hints",
    mend: "run ALTER SYSTEM SET wal_log_hints = on and restart it, or take them by archived WAL: --method wal",
    statements: ["ALTER SYSTEM SET wal_log_hints = on;"],
  },
];

/** What is known against relying on incremental backups of blocks of that server; undefined when nothing is. */
export function incrementalDefect(server: IncrementalServer): IncrementalDefect | undefined {
  const [major, minor] = [majorOf(server.versionNum), server.versionNum % 10_000];
  const isOpen = ({ mended }: Defect) => mended === undefined || minor < (mended[major] ?? 0);
  const found = defects.find((defect) => isOpen(defect) && defect.affects(server));
  if (found === undefined) return undefined;
  const { does, mend, statements } = found;
  return { version: `PostgreSQL ${major}.${minor}`, does, mend, statements };
}
