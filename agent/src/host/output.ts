import { Readable } from "node:stream";
import { gatherBytes, openGather } from "./chunks/gather.ts";

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
  const gather = openGather((bytes) => {
    if (!output.push(bytes)) stdout?.pause();
  });
  const endIfDue = () => {
    if (mayEnd && isDrained && !output.destroyed) output.push(null);
  };
  const output = new Readable({
    highWaterMark: gatherBytes,
    read: () => void stdout?.resume(),
    destroy(error, callback) {
      if (!output.readableEnded) onLeft();
      gather.drop();
      stdout?.destroy();
      callback(error);
    },
  });
  // Also without a reader of its own errors: they come out of the chain's `done` as well.
  output.on("error", () => {});
  stdout?.on("data", (chunk: Buffer) => gather.putOwned(chunk));
  stdout?.on("error", (error) => output.destroy(error));
  stdout?.once("end", () => {
    gather.flush();
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
