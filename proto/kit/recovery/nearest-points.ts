import type { ReachablePoint } from "./recovery-plan.ts";
import type { Target } from "./target.ts";
import type { RecoveryWindow } from "./windows.ts";

/** The nearest points on either side of a target that no window has; none for what has no place in WAL or time. */
export function nearestPoints(
  windows: readonly RecoveryWindow[],
  target: Target,
): Record<"before" | "after", ReachablePoint | undefined> {
  if (target.kind === "lsn") {
    const { lsn } = target;
    const ends = windows.map((window) => pointAt(window, window.endLsn));
    const starts = windows.map((window) => pointAt(window, window.startLsn));
    return {
      before: last(
        ends.filter((point) => point.lsn <= lsn),
        (point) => point.lsn,
      ),
      after: first(
        starts.filter((point) => point.lsn > lsn),
        (point) => point.lsn,
      ),
    };
  }
  if (target.kind !== "time") return { before: undefined, after: undefined };
  const lastUs = target.exclusive === true ? target.timeUs - 1n : target.timeUs;
  const points = windows.flatMap(timePoints);
  // The end of a backup is told by a time that can be asked for, where archived WAL leads on from it.
  const timed = new Set(windows.filter(({ times }) => times.length > 0).flatMap(({ backups }) => backups));
  return {
    before: last(
      points.filter(({ timeUs }) => timeUs <= lastUs),
      ({ timeUs }) => timeUs,
    )?.point,
    after: first(
      points.filter(({ timeUs, point: { backup } }) => timeUs > lastUs && !timed.has(backup ?? "")),
      ({ timeUs }) => timeUs,
    )?.point,
  };
}

function timePoints(window: RecoveryWindow): { timeUs: bigint; point: ReachablePoint }[] {
  // Without a time of its own a window offers the end of its first backup.
  if (window.times.length === 0) {
    const backup = window.backups[0];
    const point = { timeline: window.timeline, lsn: window.startLsn, timeUs: undefined, backup };
    return [{ timeUs: window.backupTimeUs, point }];
  }
  return window.times.flatMap(({ startUs, endUs }) => [
    { timeUs: startUs, point: { ...pointAt(window, window.startLsn), timeUs: startUs } },
    { timeUs: endUs, point: { ...pointAt(window, window.endLsn), timeUs: endUs } },
  ]);
}

function pointAt({ timeline, startLsn, endLsn, backups }: RecoveryWindow, lsn: bigint): ReachablePoint {
  return { timeline, lsn, timeUs: undefined, backup: startLsn === endLsn ? backups[0] : undefined };
}

function last<T>(values: readonly T[], of: (value: T) => bigint): T | undefined {
  return values.reduce<T | undefined>(
    (most, value) => (most === undefined || of(value) > of(most) ? value : most),
    undefined,
  );
}

function first<T>(values: readonly T[], of: (value: T) => bigint): T | undefined {
  return values.reduce<T | undefined>(
    (most, value) => (most === undefined || of(value) < of(most) ? value : most),
    undefined,
  );
}
