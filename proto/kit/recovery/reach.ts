import { segmentStart } from "../wal/segment.ts";
import type { RecoveryInput } from "./recovery-input.ts";
import { greatest, latestWithin, type TimeFacts, timeFacts } from "./time-facts.ts";
import { leadsThrough, type PathPiece, timelinePath } from "./timeline-path.ts";
import { type Base, unpackedFor, usableChains } from "./usable-chains.ts";

/** WAL without a hole along the path to a timeline, with the backups that recovery through it can begin with. */
export interface Reach {
  readonly timeline: number;
  readonly path: readonly PathPiece[];
  /** Where the WAL is (rep_…); undefined when it is inside the backup, and only the backup's own end can be reached. */
  readonly repository: string | undefined;
  readonly startLsn: bigint;
  /** First position after it. */
  readonly endLsn: bigint;
  readonly bases: readonly Base[];
  readonly facts: TimeFacts;
}

/** Times that recovery from a base can be told, both included. */
export interface TimeSpan {
  readonly startUs: bigint;
  readonly endUs: bigint;
}

/** Everything that can be reached, by timeline and repository; the path's last timeline is entered, or up to its beginning. */
export function reaches(input: RecoveryInput): Reach[] {
  const only = input.backup === undefined ? undefined : unpackedFor(input, input.backup);
  const bases = usableChains(input).bases.filter(({ backup }) => only === undefined || backup.id === only);
  return knownTimelines(input).flatMap((timeline) => {
    const path = timelinePath(input.histories, timeline);
    const facts = timeFacts(input, path);
    const embedded = bases
      .filter(({ backup }) => backup.walEmbedded && backup.timeline === timeline)
      .map((base) => {
        const { startLsn, stopLsn } = base.backup;
        return { timeline, path, repository: undefined, startLsn, endLsn: stopLsn, bases: [base], facts };
      });
    const archived = repositories(input).flatMap((repository) =>
      coverage(input, path, repository)
        .filter(({ endLsn }) => endLsn >= (path.at(-1)?.startLsn ?? 0n))
        .map((stretch) => ({ ...stretch, timeline, path, repository, facts, bases: basesIn(bases, path, stretch) })),
    );
    return [...archived.filter((reach) => reach.bases.length > 0), ...embedded];
  });
}

/** Every timeline that something is known of, newest first. */
export function knownTimelines(
  input: Pick<RecoveryInput, "systemIdentifier" | "backups" | "extents" | "histories">,
): number[] {
  const own = [...input.backups, ...input.extents].filter(
    ({ systemIdentifier }) => systemIdentifier === input.systemIdentifier,
  );
  const all = [...own, ...input.histories].map(({ timeline }) => timeline);
  return [...new Set(all)].sort((one, other) => other - one);
}

/** WAL along the path that lies in a repository, in stretches without a hole, in order. */
export function coverage(
  { systemIdentifier, segmentBytes, extents }: Pick<RecoveryInput, "systemIdentifier" | "segmentBytes" | "extents">,
  path: readonly PathPiece[],
  repository: string,
): { startLsn: bigint; endLsn: bigint }[] {
  const parts = path.flatMap((piece) => {
    // A timeline's first segment begins with a copy of what its parent had of it, and is read in its stead.
    const least = segmentStart(piece.startLsn, segmentBytes);
    return extents
      .filter(
        (extent) =>
          extent.repository === repository &&
          extent.systemIdentifier === systemIdentifier &&
          extent.timeline === piece.timeline &&
          extent.endLsn >= piece.startLsn,
      )
      .map(({ startLsn, endLsn }) => ({
        startLsn: startLsn > least ? startLsn : least,
        endLsn: piece.endLsn !== undefined && piece.endLsn < endLsn ? piece.endLsn : endLsn,
      }))
      .filter(({ startLsn, endLsn }) => startLsn < endLsn);
  });
  const merged: { startLsn: bigint; endLsn: bigint }[] = [];
  for (const part of parts.sort((one, other) => (one.startLsn < other.startLsn ? -1 : 1))) {
    const last = merged.at(-1);
    if (last === undefined || part.startLsn > last.endLsn) merged.push(part);
    else if (part.endLsn > last.endLsn) last.endLsn = part.endLsn;
  }
  return merged;
}

/**
 * The times that recovery from a base can be told; undefined when there are none. It has to be consistent before the
 * first commit after that time, and must come by a commit after it, or be known to have reached it.
 */
export function baseTimes({ facts, endLsn, repository }: Reach, { backup }: Base): TimeSpan | undefined {
  if (repository === undefined) return undefined;
  const { startLsn, stopLsn, stopTimeUs } = backup;
  const startUs = greatest([stopTimeUs, latestWithin(facts, startLsn, stopLsn) ?? stopTimeUs]) ?? stopTimeUs;
  const anchored = facts.latestAnchored(stopLsn, endLsn);
  const ended = facts.latestEnded(stopLsn + 1n, endLsn);
  const endUs = greatest([...(anchored === undefined ? [] : [anchored]), ...(ended === undefined ? [] : [ended - 1n])]);
  return endUs === undefined || endUs < startUs ? undefined : { startUs, endUs };
}

function repositories({ systemIdentifier, extents }: RecoveryInput): string[] {
  const own = extents.filter((extent) => extent.systemIdentifier === systemIdentifier);
  return [...new Set(own.map(({ repository }) => repository))].sort();
}

function basesIn(
  bases: readonly Base[],
  path: readonly PathPiece[],
  { startLsn, endLsn }: { startLsn: bigint; endLsn: bigint },
): Base[] {
  return bases.filter(
    ({ backup }) =>
      leadsThrough(path, backup.timeline, backup.startLsn) &&
      leadsThrough(path, backup.timeline, backup.stopLsn) &&
      backup.startLsn >= startLsn &&
      backup.stopLsn <= endLsn,
  );
}
