import { addRuns, type Extent, removeRuns } from "@coppice/proto/kit/recovery/extents";
import { knownTimelines } from "@coppice/proto/kit/recovery/reach";
import type { PhysicalBackup, RecoveryInput } from "@coppice/proto/kit/recovery/recovery-input";
import { leadsThrough, timelinePath } from "@coppice/proto/kit/recovery/timeline-path";
import { segmentStart } from "@coppice/proto/kit/wal/segment";

/** What is known of a server's backups and WAL. */
export interface CleanupInput extends Pick<
  RecoveryInput,
  "systemIdentifier" | "segmentBytes" | "backups" | "histories" | "extents"
> {
  /** Timelines that WAL is archived of right now: whatever a first backup of them will need is there. */
  readonly written: readonly number[];
  /** Whether the cluster is another server by now: no backup of it will ever be taken any more. */
  readonly isFormer: boolean;
  /** What was deleted before, and may not all be gone. */
  readonly deleted: readonly Extent[];
}

/** WAL that no backup leads to. */
export interface UnneededRun extends Extent {
  readonly reason: "before-backups" | "before-gap" | "abandoned" | "left-over";
  /** The backup that the WAL after it is kept for (bkp_…), where there is one. */
  readonly backup: string | undefined;
}

/** From where on a timeline is kept, and the backup that it is kept for. */
interface Kept {
  readonly fromLsn: bigint;
  readonly backup: string | undefined;
}

/**
 * What of a server's archived WAL can go, without anything that can be recovered to being lost: of each timeline, all that
 * lies before the oldest backup on its path, whatever state that backup is in. From there on all of it stays, and all of
 * what branches from it. Of a timeline whose history is not known, or that is written right now and has no backup yet, all
 * stays; so does everything of the present server as long as there is no backup. Runs end where segments do, or where what
 * is stored ends.
 */
export function unneededWal(input: CleanupInput): UnneededRun[] {
  const own = input.backups.filter(({ systemIdentifier }) => systemIdentifier === input.systemIdentifier);
  if (own.length === 0 && !input.isFormer) return [];
  const kept = own.length === 0 ? new Map<number, Kept>() : keptFrom(input, own);
  const inUse = (extent: Extent) => extent.systemIdentifier === input.systemIdentifier;
  const extents = addRuns(input.extents.filter(inUse), []);
  const runs = extents.flatMap((extent, index) => {
    const cut = cutBefore(extent, kept.get(extent.timeline));
    if (cut === undefined) return [];
    const next = extents[index + 1];
    const isBeforeGap =
      cut.endLsn === extent.endLsn && next?.repository === extent.repository && next.timeline === extent.timeline;
    return explain(input, own, cut, { keeper: kept.get(extent.timeline), isBeforeGap });
  });
  const again = input.deleted.filter(inUse).flatMap((extent) => cutBefore(extent, kept.get(extent.timeline)) ?? []);
  const leftOver = removeRuns(again, runs);
  return [...runs, ...leftOver.map((run) => ({ ...run, reason: "left-over", backup: undefined }) as const)];
}

/** From where on each timeline is kept; one that is missing leads from no backup. */
function keptFrom(input: CleanupInput, own: readonly PhysicalBackup[]): Map<number, Kept> {
  const { segmentBytes, histories } = input;
  const kept = new Map<number, Kept>();
  const keep = (timeline: number, fromLsn: bigint, backup: string | undefined) => {
    const before = kept.get(timeline);
    if (before === undefined || fromLsn < before.fromLsn) kept.set(timeline, { fromLsn, backup });
  };
  const timelines = knownTimelines(input);
  for (const timeline of timelines) {
    const path = timelinePath(histories, timeline);
    // Of a timeline that grew out of another one nobody knows where: its WAL may be that of any backup.
    if (timeline > 1 && !histories.some((history) => history.timeline === timeline)) keep(timeline, 0n, undefined);
    for (const { id, timeline: at, startLsn } of own) {
      if (!leadsThrough(path, at, startLsn)) continue;
      for (const piece of path) {
        if (piece.endLsn !== undefined && piece.endLsn <= startLsn) continue;
        // A timeline's first segment begins with a copy of what its parent had of it.
        const from = piece.startLsn > startLsn ? piece.startLsn : startLsn;
        keep(piece.timeline, segmentStart(from, segmentBytes), id);
      }
    }
  }
  const newest = timelines[0];
  for (const timeline of [...input.written, ...(newest === undefined ? [] : [newest])]) {
    if (!kept.has(timeline)) keep(timeline, 0n, undefined);
  }
  return kept;
}

function cutBefore(extent: Extent, kept: Kept | undefined): Extent | undefined {
  const endLsn = kept !== undefined && kept.fromLsn < extent.endLsn ? kept.fromLsn : extent.endLsn;
  return extent.startLsn < endLsn ? { ...extent, endLsn } : undefined;
}

/** Why each part of it can go: of what is left of a timeline behind a switch no backup knows. */
function explain(
  { histories, segmentBytes }: CleanupInput,
  own: readonly PhysicalBackup[],
  run: Extent,
  { keeper, isBeforeGap }: { readonly keeper: Kept | undefined; readonly isBeforeGap: boolean },
): UnneededRun[] {
  if (keeper !== undefined)
    return [{ ...run, reason: isBeforeGap ? "before-gap" : "before-backups", backup: keeper.backup }];
  const paths = own.map((backup) => ({ backup, path: timelinePath(histories, backup.timeline) }));
  const on = paths.flatMap(({ backup, path }) => {
    const piece = path.find(({ timeline }) => timeline === run.timeline);
    return piece?.endLsn === undefined ? [] : [{ backup: backup.id, endLsn: piece.endLsn }];
  });
  const last = on.reduce<(typeof on)[number] | undefined>(
    (most, one) => (most === undefined || one.endLsn > most.endLsn ? one : most),
    undefined,
  );
  if (last === undefined) return [{ ...run, reason: "abandoned", backup: undefined }];
  const border = segmentStart(last.endLsn + segmentBytes - 1n, segmentBytes);
  const before = { ...run, endLsn: border < run.endLsn ? border : run.endLsn };
  const behind = { ...run, startLsn: border > run.startLsn ? border : run.startLsn };
  return [
    { ...before, reason: "before-backups" as const, backup: last.backup },
    { ...behind, reason: "abandoned" as const, backup: undefined },
  ].filter(({ startLsn, endLsn }) => startLsn < endLsn);
}
