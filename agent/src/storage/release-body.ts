import { Readable } from "node:stream";
import type { Body } from "./storage.ts";

/** Lets go of a body however the put ended; one that is stuck is not waited for. */
export function releaseBody(body: Body, chunks: AsyncIterator<Uint8Array>): void {
  if (body instanceof Readable) {
    // Its error, if it has one, is the put's.
    body.on("error", () => {});
    body.destroy();
  } else {
    chunks.return?.().catch(() => {});
  }
}
