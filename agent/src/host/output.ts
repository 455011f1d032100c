import { Readable } from "node:stream";
import { freeChunk } from "./free-chunk.ts";

// As much as one write to a file should have at least.
const bufferBytes = 1 << 20;
/** How long less than that waits for more. */
const gatherMs = 20;

/** A program's stdout on its way to a reader. */
export interface Output {
  readonly output: Readable;
  /** Lets the output end once all of it is read; until then it stays open even when the program is done. */
  readonly finish: () => void;
}

/** Makes a readable of a program's stdout that does not end before it is told to. `onLeft`: it was destroyed earlier. */
export function openOutput(stdout: Readable | undefined, onLeft: () => void): Output {
  let mayEnd = false;
  let isDrained = stdout === undefined;
  let gathered: Buffer | undefined;
  let filled = 0;
  let timer: NodeJS.Timeout | undefined;
  const hand = () => {
    clearTimeout(timer);
    timer = undefined;
    if (!gathered || filled === 0) return;
    const isWhole = filled === bufferBytes;
    const bytes = isWhole ? gathered : Buffer.from(gathered.subarray(0, filled));
    if (isWhole) gathered = undefined;
    filled = 0;
    if (!output.push(bytes)) stdout?.pause();
  };
  // A pipe gives 64 KiB at a time: too little for what follows, and costly to collect as garbage.
  const gather = (chunk: Buffer) => {
    for (let offset = 0; offset < chunk.length;) {
      gathered ??= Buffer.allocUnsafeSlow(bufferBytes);
      const copied = chunk.copy(gathered, filled, offset);
      filled += copied;
      offset += copied;
      if (filled === bufferBytes) hand();
    }
    freeChunk(chunk);
    if (filled > 0) timer ??= setTimeout(hand, gatherMs);
  };
  const endIfDue = () => {
    if (mayEnd && isDrained && !output.destroyed) output.push(null);
  };
  const output = new Readable({
    highWaterMark: bufferBytes,
    read: () => void stdout?.resume(),
    destroy(error, callback) {
      if (!output.readableEnded) onLeft();
      clearTimeout(timer);
      stdout?.destroy();
      callback(error);
    },
  });
  // Also without a reader of its own errors: they come out of the chain's `done` as well.
  output.on("error", () => {});
  stdout?.on("data", gather);
  stdout?.on("error", (error) => output.destroy(error));
  stdout?.once("end", () => {
    hand();
    isDrained = true;
    endIfDue();
  });
  return {
    output,
    finish() {
      mayEnd = true;
      endIfDue();
    },
  };
}
