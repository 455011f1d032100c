import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { Readable } from "node:stream";
import { callbackify } from "node:util";
import { fail, Failure } from "@coppice/proto/kit/failure";
import { parseFileKey } from "./file-key.ts";
import { errorCode, filesystemFailure } from "./filesystem-failure.ts";
import { checkRoot, type FilesystemRoot, findPath } from "./filesystem-root.ts";
import type { Watch } from "./filesystem-watch.ts";
import type { ByteRange } from "./storage.ts";

const chunkBytes = 1 << 20;

/**
 * Opens one object; see Storage.get and Storage.getFile. `watch` does each work and may give it up. Errors of the call itself are the
 * operating system's where they are no Failures.
 */
export async function getFile(
  root: FilesystemRoot,
  key: string,
  { range, signal }: { range: ByteRange | undefined; signal: AbortSignal },
  watch: Watch,
): Promise<{ readonly fd: number; readonly bytes: Readable }> {
  return await watch(({ signal: watched, ask }) =>
    ask(async () => {
      const file = await openObject(root, key);
      try {
        const { size } = await file.stat();
        watched.throwIfAborted();
        const start = Math.min(range?.offset ?? 0, size);
        const end = start + Math.min(range?.length ?? size, size - start);
        return { fd: file.fd, bytes: readPart(file, { start, end, key, root, signal, watch }) };
      } catch (error) {
        await file.close();
        throw error;
      }
    }),
  );
}

async function openObject(root: FilesystemRoot, key: string): Promise<FileHandle> {
  const path = await findPath(root, parseFileKey(key));
  const missing = () =>
    fail("OBJECT_MISSING", `repository ${root.path}: object ${key} is missing`, { metadata: { key } });
  if (path === undefined) return missing();
  try {
    // Opening a FIFO would wait for its writer.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if ((await file.stat()).isFile()) return file;
    await file.close();
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
    await checkRoot(root);
  }
  return missing();
}

interface Part {
  readonly start: number;
  readonly end: number;
  readonly key: string;
  readonly root: FilesystemRoot;
  readonly signal: AbortSignal;
  readonly watch: Watch;
}

/** While the reader works on one chunk the stream reads the next. */
function readPart(file: FileHandle, { start, end, key, root, signal, watch }: Part): Readable {
  let offset = start;
  let isReading = false;
  const readChunk = async (): Promise<Buffer | null> => {
    const wanted = Math.min(chunkBytes, end - offset);
    if (wanted === 0) return null;
    const read = async () => {
      isReading = true;
      try {
        return await file.read(Buffer.allocUnsafeSlow(wanted), 0, wanted, offset);
      } finally {
        isReading = false;
      }
    };
    const { buffer, bytesRead } = await watch(({ ask }) => ask(read));
    if (bytesRead === 0) {
      throw new Failure("DIGEST_MISMATCH", `repository ${root.path}: object ${key} ended after ${offset} bytes`);
    }
    offset += bytesRead;
    return buffer.subarray(0, bytesRead);
  };
  const onAbort = () => stream.destroy(asError(signal.reason));
  const stream = new Readable({
    highWaterMark: chunkBytes,
    read() {
      readChunk().then(
        (chunk) => stream.push(chunk),
        (error: unknown) => stream.destroy(asError(filesystemFailure(error, { doing: "read", root: root.path, key }))),
      );
    },
    destroy(error, callback) {
      signal.removeEventListener("abort", onAbort);
      // It waits for a read that is under way, which may hang: that one closes it by itself when it comes back.
      if (error && isReading) {
        closeFile(file, () => {});
        callback(error);
      } else closeFile(file, (closing) => callback(error ?? closing));
    },
  });
  signal.addEventListener("abort", onAbort, { once: true });
  return stream;
}

const closeFile = callbackify((file: FileHandle) => file.close());

function asError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error("reading was stopped", { cause });
}
