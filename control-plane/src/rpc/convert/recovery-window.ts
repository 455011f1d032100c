import { create } from "@bufbuild/protobuf";
import { type RecoveryWindow, RecoveryWindowSchema } from "@coppice/proto/gen/coppice/control/v1/cluster";
import { formatLsn } from "@coppice/proto/kit/wal/lsn";
import { timestampOf } from "@coppice/proto/kit/recovery-point/microseconds";
import type { RecoveryWindow as Stretch } from "@coppice/proto/kit/recovery/windows";

/**
 * What can be reached through archived WAL, a window for each timeline, newest last: from its first point to its last,
 * with what in between cannot be.
 */
export function windowMessages(stretches: readonly Stretch[]): RecoveryWindow[] {
  const archived = stretches.filter(({ walRepository }) => walRepository !== undefined);
  const timelines = [...new Set(archived.map(({ timeline }) => timeline))].sort((one, other) => one - other);
  return timelines.map((timeline) =>
    windowMessage(
      timeline,
      archived.filter((one) => one.timeline === timeline),
    ),
  );
}

function windowMessage(timeline: number, stretches: readonly Stretch[]): RecoveryWindow {
  const merged: { startLsn: bigint; endLsn: bigint }[] = [];
  for (const { startLsn, endLsn } of stretches.toSorted((one, other) => compare(one.startLsn, other.startLsn))) {
    const last = merged.at(-1);
    if (last === undefined || startLsn > last.endLsn) merged.push({ startLsn, endLsn });
    else if (endLsn > last.endLsn) last.endLsn = endLsn;
  }
  const times = stretches.flatMap((one) => one.times);
  const [first] = times.map(({ startUs }) => startUs).sort(compare);
  const last = times
    .map(({ endUs }) => endUs)
    .sort(compare)
    .at(-1);
  return create(RecoveryWindowSchema, {
    timeline,
    startLsn: formatLsn(merged[0]?.startLsn ?? 0n),
    endLsn: formatLsn(merged.at(-1)?.endLsn ?? 0n),
    ...(first === undefined ? {} : { startTime: timestampOf(first) }),
    ...(last === undefined ? {} : { endTime: timestampOf(last) }),
    gaps: merged.slice(1).map(({ startLsn }, index) => ({
      startLsn: formatLsn(merged[index]?.endLsn ?? 0n),
      endLsn: formatLsn(startLsn),
    })),
  });
}

function compare(one: bigint, other: bigint): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
