import { create } from "@bufbuild/protobuf";
import { type WorkDone, WorkDoneSchema } from "@coppice/proto/gen/coppice/common/v1/progress";

/** Says how many bytes of an item have been dumped so far, or that it is done, well or not. */
export type ReportDump = (item: string, dumped: number | "done") => void;

/**
 * Turns what is said of each item into progress of the whole. `sizes` are the items with their sizes on the server, as
 * an estimate of what they come to as a dump: an item never counts for more than its size, and for all of it when it is
 * done. Without all sizes there is no total. Items that are not listed, the globals, only show by their name.
 */
export function dumpProgress(
  sizes: readonly (readonly [item: string, sizeBytes: bigint | undefined])[],
  onProgress: (work: WorkDone) => void,
): ReportDump {
  const estimates = new Map(sizes);
  const isKnown = sizes.every(([, size]) => size !== undefined);
  const work = create(WorkDoneSchema, { phase: "dumping", totalItems: sizes.length });
  if (isKnown) work.totalBytes = sizes.reduce((sum, [, size = 0n]) => sum + size, 0n);
  const dumpedBytes = new Map<string, bigint>();
  return (item, dumped) => {
    work.item = item;
    if (estimates.has(item)) {
      const size = estimates.get(item);
      const before = dumpedBytes.get(item) ?? 0n;
      const seen = dumped === "done" ? (size ?? before) : BigInt(dumped);
      const counted = size !== undefined && seen > size ? size : seen;
      work.doneBytes += counted > before ? counted - before : 0n;
      dumpedBytes.set(item, counted > before ? counted : before);
      if (dumped === "done") work.doneItems += 1;
    }
    onProgress(work);
  };
}
