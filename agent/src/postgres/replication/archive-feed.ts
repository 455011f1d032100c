import { Readable } from "node:stream";
import type { Line } from "./line.ts";

/** What is read ahead of a consumer; a socket's chunk is 64 KiB, and iterating gives what has gathered in one piece. */
const aheadBytes = 1024 * 1024;

/** A stream that the line's bytes are put into. */
export interface ArchiveFeed {
  readonly content: Readable;
  put(piece: Buffer): void;
  end(): void;
  /** Ends it with an error, if it has not ended yet. */
  fail(reason: unknown): void;
}

/** Makes a stream that stops the server when nobody reads it, and for good when its consumer gives up on it. */
export function openArchiveFeed(line: Pick<Line, "hold">): ArchiveFeed {
  let release: (() => void) | undefined;
  const content = new Readable({
    highWaterMark: aheadBytes,
    read() {
      release?.();
      release = undefined;
    },
    destroy(error, done) {
      // Why it was given up says the consumer's promise, a moment later.
      if (!content.readableEnded) release ??= line.hold();
      done(error);
    },
  });
  // Who waits for the backup is told; a stream that nobody listens to any more must not end the process.
  content.on("error", () => {});
  return {
    content,
    put(piece) {
      if (!content.push(piece)) release ??= line.hold();
    },
    end() {
      // Nobody asks a stream that has ended for more, and what comes next is held back by who takes it.
      release?.();
      release = undefined;
      content.push(null);
    },
    fail(reason) {
      if (!content.readableEnded) content.destroy(reason instanceof Error ? reason : new Error(String(reason)));
    },
  };
}
