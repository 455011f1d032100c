import { createHash } from "node:crypto";
import type { DigestAnswer, DigestQuestion } from "./digest-task.ts";
import { startThread } from "./thread.ts";

/** A digest that is made while a stream goes by. */
export interface StreamDigest extends AsyncDisposable {
  /** Takes a chunk that nobody else holds, and gives it back, perhaps in other memory, when it was digested. */
  update(chunk: Buffer): Promise<Buffer>;
  /** SHA-256 of all that was given, lower-case hexadecimal. */
  digest(): Promise<string>;
}

/** Below that a thread takes longer to start than it saves. */
const leastBytes = 32 << 20;

/**
 * Opens the SHA-256 of a stream of about so many bytes. A large one is made on a thread of its own: without special
 * instructions of the processor a core does some 300 MB/s, and what else there is to do with the stream is done meanwhile.
 */
export function openDigest(expectedBytes: number): StreamDigest {
  return expectedBytes < leastBytes ? onThisThread() : onItsOwn();
}

function onThisThread(): StreamDigest {
  const hash = createHash("sha256");
  return {
    async update(chunk) {
      hash.update(chunk);
      return chunk;
    },
    digest: async () => hash.digest("hex"),
    async [Symbol.asyncDispose]() {},
  };
}

function onItsOwn(): StreamDigest {
  const place = { name: "digest-worker", importer: import.meta.url, what: "a thread that digests a stream" };
  const thread = startThread<DigestQuestion, DigestAnswer>(place);
  return {
    async update(chunk) {
      const bytes = whole(chunk);
      const answer = await thread.ask({ is: "take", bytes }, [bytes.buffer]);
      if (answer.is !== "taken") throw new Error(`${place.what} answered something else`);
      return Buffer.from(answer.bytes.buffer, answer.bytes.byteOffset, answer.bytes.byteLength);
    },
    async digest() {
      const answer = await thread.ask({ is: "end" });
      if (answer.is !== "digest") throw new Error(`${place.what} answered something else`);
      return answer.sha256;
    },
    [Symbol.asyncDispose]: () => thread.end(),
  };
}

/** A chunk in memory of its own: of a part of others' only the part may go to another thread. */
function whole({ buffer, byteOffset, byteLength }: Buffer): Uint8Array<ArrayBuffer> {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) return new Uint8Array(buffer);
  const own = new Uint8Array(byteLength);
  own.set(new Uint8Array(buffer, byteOffset, byteLength));
  return own;
}
