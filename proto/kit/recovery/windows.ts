import type { RecoveryInput } from "./recovery-input.ts";
import { baseTimes, type Reach, reaches, type TimeSpan } from "./reach.ts";

/** Points that can be recovered to without a gap between them. */
export interface RecoveryWindow {
  readonly systemIdentifier: string;
  /** Timeline to follow. */
  readonly timeline: number;
  /** Timelines that it goes through, oldest first. */
  readonly timelines: readonly number[];
  /** Where the WAL is (rep_…); undefined of a backup with embedded WAL, which gives one point. */
  readonly walRepository: string | undefined;
  readonly startLsn: bigint;
  /** Everything before it can be reached; the same as `startLsn` when it is one point. */
  readonly endLsn: bigint;
  /** Times that can be asked for, both ends included; several only where the clock was set back. */
  readonly times: readonly TimeSpan[];
  /** Backups that it can begin with, in order of WAL. */
  readonly backups: readonly string[];
  /** When the first of them ended. */
  readonly backupTimeUs: bigint;
}

/** What can be recovered to, newest timeline first, then in order of WAL. */
export function recoveryWindows(input: RecoveryInput): RecoveryWindow[] {
  return windowsOf(input, reaches(input));
}

/** The same of everything that can be reached, where that is known already. */
export function windowsOf({ systemIdentifier }: RecoveryInput, all: readonly Reach[]): RecoveryWindow[] {
  return all.flatMap((reach) => {
    const [first, ...others] = reach.bases.map(({ backup }) => backup);
    if (first === undefined) return [];
    const backups = [first, ...others].sort((one, other) => (one.stopLsn < other.stopLsn ? -1 : 1));
    const { stopLsn: startLsn, stopTimeUs: backupTimeUs } = backups[0] ?? first;
    return [
      {
        systemIdentifier,
        timeline: reach.timeline,
        timelines: reach.path
          .filter((piece) => (piece.endLsn ?? reach.endLsn + 1n) > startLsn)
          .map(({ timeline }) => timeline),
        walRepository: reach.repository,
        startLsn,
        endLsn: reach.endLsn,
        times: windowTimes(reach),
        backups: [...new Set(backups.map(({ id }) => id))],
        backupTimeUs,
      },
    ];
  });
}

function windowTimes(reach: Reach): TimeSpan[] {
  const spans = reach.bases.flatMap((base) => baseTimes(reach, base) ?? []);
  const merged: TimeSpan[] = [];
  for (const span of spans.sort((one, other) => (one.startUs < other.startUs ? -1 : 1))) {
    const last = merged.at(-1);
    if (last === undefined || span.startUs > last.endUs + 1n) merged.push(span);
    else if (span.endUs > last.endUs) merged[merged.length - 1] = { ...last, endUs: span.endUs };
  }
  return merged;
}
