import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";

/** A stream on its way into a program. */
export interface Feeding {
  /** After the program's end: whether it has taken all of the stream. */
  isTakenWhole(): Promise<boolean>;
  /** Closes both ends; only when no program of the chain runs any more. */
  close(): void;
}

/**
 * Hands a stream to a program's stdin, with back-pressure. When the stream fails `onFailure` is told, and the stdin
 * stays open: closed, it would look like the end of a whole stream.
 */
export function feed(input: Readable, stdin: Writable, onFailure: (cause: unknown) => void): Feeding {
  let isRefused = false;
  stdin.on("error", () => {
    // The program reads no more; its exit status says why.
    isRefused = true;
    input.pause();
  });
  stdin.on("drain", () => input.resume());
  input.on("data", (chunk: Uint8Array) => {
    if (!isRefused && !stdin.write(chunk)) input.pause();
  });
  input.on("end", () => stdin.end());
  input.on("error", onFailure);
  input.on("close", () => {
    if (!input.readableEnded) onFailure(input.errored ?? new Error("the input was closed before its end"));
  });

  return {
    async isTakenWhole() {
      if (isRefused || !input.readableEnded) return false;
      return finished(stdin, { readable: false }).then(
        () => true,
        () => false,
      );
    },
    close() {
      input.destroy();
      stdin.destroy();
    },
  };
}
