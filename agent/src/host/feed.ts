import type { Readable, Writable } from "node:stream";
import { freeChunk } from "./free-chunk.ts";

/** A stream on its way into a program. */
export interface Feeding {
  /** After the program's end: whether it has taken all of the stream; waits for the stream's own end where that is open. */
  isTakenWhole(): Promise<boolean>;
  /** Closes both ends; only when no program of the chain runs any more. */
  close(): void;
}

/**
 * Hands a stream to a program's stdin, with back-pressure. Chunks that nobody else holds are freed once they are written. When the stream fails `onFailure` is told, and the stdin
 * stays open: closed, it would look like the end of a whole stream.
 */
export function feed(
  { input, ownsChunks, stdin }: { input: Readable; ownsChunks: boolean; stdin: Writable },
  onFailure: (cause: unknown) => void,
): Feeding {
  let isRefused = false;
  let waiting = 0;
  const over = Promise.withResolvers<void>();
  const refuse = () => {
    // The program reads no more; its exit status says why.
    isRefused = true;
    input.pause();
    over.resolve();
  };
  // Told of each chunk by its callback; a program that ends before it was told the end has taken all the same.
  stdin.on("error", () => {});
  stdin.on("drain", () => input.resume());
  input.on("data", (chunk: Uint8Array) => {
    if (isRefused) return;
    waiting++;
    const isTaken = stdin.write(chunk, (error) => {
      waiting--;
      if (error) refuse();
      else if (ownsChunks) freeChunk(chunk);
    });
    if (!isTaken) input.pause();
  });
  input.on("end", () => {
    stdin.end();
    over.resolve();
  });
  input.on("error", onFailure);
  input.on("close", () => {
    over.resolve();
    if (!input.readableEnded) onFailure(input.errored ?? new Error("the input was closed before its end"));
  });

  return {
    async isTakenWhole() {
      await over.promise;
      return !isRefused && input.readableEnded && waiting === 0;
    },
    close() {
      over.resolve();
      input.destroy();
      stdin.destroy();
    },
  };
}
