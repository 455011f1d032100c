import { create } from "@bufbuild/protobuf";
import { WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";
import { expect, test } from "vitest";
import { computeGroupProgress, computeProgress, keepSamples, type ProgressSample } from "./progress.ts";

const sample = (timeMs: number, doneBytes: bigint, phase = "dumping"): ProgressSample => ({ timeMs, phase, doneBytes });
const work = (doneBytes: bigint, totalBytes?: bigint) =>
  create(WorkDoneSchema, { phase: "dumping", doneBytes, ...(totalBytes === undefined ? {} : { totalBytes }) });

test("rate and time left come from the oldest and the newest sample", () => {
  const progress = computeProgress(work(300n, 1000n), [sample(0, 100n), sample(1000, 150n), sample(2000, 300n)]);
  expect(progress.percent).toBe(30);
  expect(progress.bytesPerSecond).toBe(100n);
  expect(progress.remaining?.seconds).toBe(7n);
});

test("one sample gives a share but no rate", () => {
  const progress = computeProgress(work(500n, 1000n), [sample(0, 500n)]);
  expect(progress.percent).toBe(50);
  expect(progress.bytesPerSecond).toBeUndefined();
  expect(progress.remaining).toBeUndefined();
});

test("without a total there is a rate but neither share nor time left", () => {
  const progress = computeProgress(work(200n), [sample(0, 0n), sample(1000, 200n)]);
  expect(progress.percent).toBeUndefined();
  expect(progress.bytesPerSecond).toBe(200n);
  expect(progress.remaining).toBeUndefined();
});

test("more than the estimated total is 100 percent with no time left", () => {
  const progress = computeProgress(work(1500n, 1000n), [sample(0, 0n), sample(1000, 1500n)]);
  expect(progress.percent).toBe(100);
  expect(progress.remaining?.seconds).toBe(0n);
});

test("a standstill has no time left to tell", () => {
  const progress = computeProgress(work(10n, 1000n), [sample(0, 10n), sample(5000, 10n)]);
  expect(progress.bytesPerSecond).toBe(0n);
  expect(progress.remaining).toBeUndefined();
});

test("a share without bytes is that of the items", () => {
  const progress = computeProgress(create(WorkDoneSchema, { doneItems: 1, totalItems: 3 }), []);
  expect(progress.percent).toBe(33.3);
});

test("samples of another phase, of long ago, or of before a new beginning are forgotten", () => {
  const latest = sample(20_000, 50n);
  const kept = keepSamples(
    [sample(1000, 1n), sample(19_000, 10n, "preflight"), sample(19_500, 90n), sample(19_800, 40n)],
    latest,
  );
  expect(kept).toEqual([sample(19_800, 40n), latest]);
});

test("a group is as far as those of its operations that are done, and the one that is under way", () => {
  const current = computeProgress(work(25n, 100n), []);
  const { work: shown, percent, remaining } = computeGroupProgress(1, 4, { ...current, bytesPerSecond: 7n });
  expect(shown).toMatchObject({ phase: "dumping", doneItems: 1, totalItems: 4, doneBytes: 25n, totalBytes: 100n });
  expect([percent, remaining]).toEqual([31.3, undefined]);
  expect(computeGroupProgress(4, 4, undefined).percent).toBe(100);
});
