import { Readable } from "node:stream";
import { gatherBytes, openGather } from "../../host/chunks/gather.ts";
import type { Line } from "./line.ts";

/** A stream that the line's bytes are put into. */
export interface ArchiveFeed {
  /** In large pieces, which are the consumer's own. */
  readonly content: Readable;
  /** Copies it. */
  put(piece: Buffer): void;
  end(): void;
  /** Ends it with an error, if it has not ended yet. */
  fail(reason: unknown): void;
}

/** Makes a stream that stops the server when nobody reads it, and for good when its consumer gives up on it. */
export function openArchiveFeed(line: Pick<Line, "hold">): ArchiveFeed {
  let release: (() => void) | undefined;
  const gather = openGather((bytes) => {
    if (!content.push(bytes)) release ??= line.hold();
  });
  const content = new Readable({
    // One piece: a reader that finds several gets a copy of them.
    highWaterMark: gatherBytes,
    read() {
      release?.();
      release = undefined;
    },
    destroy(error, done) {
      gather.drop();
      // Why it was given up says the consumer's promise, a moment later.
      if (!content.readableEnded) release ??= line.hold();
      done(error);
    },
  });
  // Who waits for the backup is told; a stream that nobody listens to any more must not end the process.
  content.on("error", () => {});
  return {
    content,
    put: (piece) => gather.put(piece),
    end() {
      gather.flush();
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
