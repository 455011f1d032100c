import { Readable } from "node:stream";
import { gatherBytes, openGather } from "./chunks/gather.ts";

/** A program's stdout on its way to a reader. */
export interface Output {
  readonly output: Readable;
  /**
   * Lets the output end once all of it is read; until then it stays open even when the program is done. To be called
   * when it is: what it wrote is then all there, and whoever else still holds its stdout is not waited for.
   */
  readonly finish: () => void;
}

/** So long nothing comes after a program's end though it could: all that it wrote is read. */
const silenceMs = 1000;

/** Makes a readable of a program's stdout that does not end before it is told to. `onLeft`: it was destroyed earlier. */
export function openOutput(stdout: Readable | undefined, onLeft: () => void): Output {
  let mayEnd = false;
  let isDrained = stdout === undefined;
  let isSilent = false;
  let silence: NodeJS.Timeout | undefined;
  const gather = openGather((bytes) => {
    if (!output.push(bytes)) stdout?.pause();
  });
  const endIfDue = () => {
    if (mayEnd && isDrained && !output.destroyed) output.push(null);
  };
  const drained = () => {
    clearTimeout(silence);
    gather.flush();
    isDrained = true;
    endIfDue();
  };
  /** A process in another session may have inherited it and hold it for ever. */
  const leaveInSilence = (from: Readable) => {
    if (isDrained || output.destroyed) return;
    isSilent = !from.isPaused();
    const look = () => {
      if (!isSilent || isDrained) return leaveInSilence(from);
      drained();
      from.destroy();
    };
    // After a turn in which what lies in the pipe would have come, should this process have had no time for it.
    silence = setTimeout(() => setImmediate(look), silenceMs);
  };
  const output = new Readable({
    highWaterMark: gatherBytes,
    read: () => void stdout?.resume(),
    destroy(error, callback) {
      if (!output.readableEnded) onLeft();
      gather.drop();
      clearTimeout(silence);
      stdout?.destroy();
      callback(error);
    },
  });
  // Also without a reader of its own errors: they come out of the chain's `done` as well.
  output.on("error", () => {});
  stdout?.on("data", (chunk: Buffer) => {
    isSilent = false;
    gather.putOwned(chunk);
  });
  stdout?.on("error", (error) => output.destroy(error));
  stdout?.once("end", drained);
  return {
    output,
    finish() {
      mayEnd = true;
      endIfDue();
      if (stdout) leaveInSilence(stdout);
    },
  };
}
