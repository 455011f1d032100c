import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { type OperationProgress, OperationProgressSchema } from "@coppice/proto/gen/coppice/control/v1/operation";

/** How much was done at a time: what rates are computed from. */
export interface ProgressSample {
  /** Milliseconds since 1970. */
  readonly timeMs: number;
  readonly phase: string;
  readonly doneBytes: bigint;
}

const windowMs = 15_000;

/** What was seen before that still counts beside the new sample: of the same phase and of the last seconds. */
export function keepSamples(earlier: readonly ProgressSample[], latest: ProgressSample): ProgressSample[] {
  const kept = earlier.filter(
    ({ timeMs, phase, doneBytes }) =>
      phase === latest.phase &&
      doneBytes <= latest.doneBytes &&
      timeMs < latest.timeMs &&
      timeMs >= latest.timeMs - windowMs,
  );
  return [...kept, latest];
}

/**
 * Share, rate and time left. The rate is that of the samples, oldest to newest; there is none before a second sample,
 * and no time left without a total or at a standstill. An agent's total is an estimate: more than all is all but done.
 */
export function computeProgress(work: WorkDone, samples: readonly ProgressSample[]): OperationProgress {
  const percent = computePercent(work);
  const rate = computeRate(samples);
  const remainingMs = computeRemainingMs(work, rate);
  return create(OperationProgressSchema, {
    work,
    ...(percent === undefined ? {} : { percent }),
    ...(rate === undefined ? {} : { bytesPerSecond: rate }),
    ...(remainingMs === undefined ? {} : { remaining: durationFromMs(remainingMs) }),
  });
}

/**
 * How far a group is: of so many operations so many are done, and the one that is under way tells its share. Its time
 * left is not that of the group, which is unknown.
 */
export function computeGroupProgress(
  done: number,
  total: number,
  current: OperationProgress | undefined,
): OperationProgress {
  const work = create(WorkDoneSchema, { doneItems: done, totalItems: total });
  if (current?.work !== undefined) {
    const { phase, item, doneBytes, totalBytes } = current.work;
    Object.assign(work, { phase, item, doneBytes, ...(totalBytes === undefined ? {} : { totalBytes }) });
  }
  const percent = total === 0 ? 100 : share((done + (current?.percent ?? 0) / 100) / total);
  return create(OperationProgressSchema, {
    work,
    percent,
    ...(current?.bytesPerSecond === undefined ? {} : { bytesPerSecond: current.bytesPerSecond }),
  });
}

function computePercent({ doneBytes, totalBytes, doneItems, totalItems }: WorkDone): number | undefined {
  if (totalBytes !== undefined && totalBytes > 0n) return share(Number(doneBytes) / Number(totalBytes));
  if (totalItems !== undefined && totalItems > 0) return share(doneItems / totalItems);
  return undefined;
}

function share(ratio: number): number {
  return Math.min(100, Math.max(0, Math.round(ratio * 1000) / 10));
}

function computeRate(samples: readonly ProgressSample[]): bigint | undefined {
  const first = samples.at(0);
  const last = samples.at(-1);
  if (first === undefined || last === undefined || last.timeMs <= first.timeMs) return undefined;
  return ((last.doneBytes - first.doneBytes) * 1000n) / BigInt(Math.ceil(last.timeMs - first.timeMs));
}

function computeRemainingMs({ doneBytes, totalBytes }: WorkDone, rate: bigint | undefined): number | undefined {
  if (totalBytes === undefined || rate === undefined || rate <= 0n) return undefined;
  const left = totalBytes > doneBytes ? totalBytes - doneBytes : 0n;
  return Number((left * 1000n) / rate);
}
