import { Socket } from "node:net";
import { Readable } from "node:stream";
import { GetObjectCommand } from "@aws-sdk/client-s3";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { fail, Failure } from "@coppice/proto/kit/failure";
import { sleep } from "@coppice/proto/kit/sleep";
import { freeChunk } from "../../host/free-chunk.ts";
import { parseObjectKey } from "../object-key.ts";
import type { ByteRange } from "../storage.ts";
import type { Bucket } from "./bucket.ts";
import { errorFacts, isPassing } from "./error-facts.ts";
import { failureOf, type RequestKind, send } from "./request.ts";
import { statObject } from "./stat.ts";

const chunkBytes = 1 << 20;
const fruitlessTries = 5;

/** Opens one object; see Storage.get. A body that is cut goes on where it was, as long as it is the same object. */
export async function getObject(
  bucket: Bucket,
  key: string,
  range: ByteRange | undefined,
  signal: AbortSignal,
): Promise<Readable> {
  parseObjectKey(key);
  signal.throwIfAborted();
  const kind: RequestKind = { purpose: "read", doing: "read", action: "s3:GetObject", key };
  if (range?.length === 0) {
    const found = await statObject(bucket, key, signal);
    return found ? Readable.from([]) : fail("OBJECT_MISSING", `repository ${bucket.name}: object ${key} is missing`);
  }
  const begin = range?.offset ?? 0;
  const first = await ask(bucket, kind, { begin, end: range && begin + range.length - 1 }, signal);
  return first ? openReader({ bucket, kind, begin, first, signal }) : Readable.from([]);
}

interface Span {
  readonly begin: number;
  /** Of its last byte; undefined is the object's end. */
  readonly end?: number | undefined;
  /** What the object has to be still. */
  readonly etag?: string;
}

interface Answer {
  readonly body: Readable;
  readonly sizeBytes: number;
  readonly etag: string;
}

/** Asks for bytes of the object; undefined when it has none there. */
async function ask(
  bucket: Bucket,
  kind: RequestKind,
  { begin, end, etag }: Span,
  signal: AbortSignal,
): Promise<Answer | undefined> {
  const isWhole = begin === 0 && end === undefined;
  const answer = await send(
    bucket,
    kind,
    signal,
    (client, options) =>
      client.send(
        new GetObjectCommand({
          Bucket: bucket.location.bucket,
          Key: bucket.prefix + kind.key,
          ...(isWhole ? {} : { Range: `bytes=${begin}-${end ?? ""}` }),
          ...(etag ? { IfMatch: etag } : {}),
        }),
        options,
      ),
    async ({ status }) => {
      if (status === 412) {
        fail("DIGEST_MISMATCH", `repository ${bucket.name}: object ${kind.key} was replaced while it was read`);
      }
      return status === 416 ? "nothing" : undefined;
    },
  );
  if (answer === "nothing") return undefined;
  const { Body: body, ContentLength: sizeBytes, ContentRange: part, ETag = "" } = answer;
  if (!(body instanceof Readable) || sizeBytes === undefined || (!isWhole && !part?.startsWith(`bytes ${begin}-`))) {
    if (body instanceof Readable) body.destroy();
    return fail("REPOSITORY_IO_ERROR", `repository ${bucket.name}: the server answered no such part of ${kind.key}`);
  }
  // A reader may take its time; how long the server may is watched where it is waited for.
  const socket: unknown = Reflect.get(body, "socket");
  if (socket instanceof Socket) socket.setTimeout(0);
  return { body, sizeBytes, etag: ETag };
}

interface Reading {
  readonly bucket: Bucket;
  readonly kind: RequestKind;
  readonly begin: number;
  readonly first: Answer;
  readonly signal: AbortSignal;
}

function openReader({ bucket, kind, begin, first, signal }: Reading): Readable {
  const left = new AbortController();
  const { sizeBytes, etag } = first;
  let body = first.body;
  let position = 0;
  let fruitless = 0;

  async function* chunks(): AsyncGenerator<Buffer, void> {
    while (position < sizeBytes) {
      try {
        for await (const chunk of gather(body, bucket.patience.idleMs, left.signal)) {
          position += chunk.length;
          fruitless = 0;
          if (position > sizeBytes) fail("DIGEST_MISMATCH", `object ${kind.key} is longer than the server said`);
          yield chunk;
        }
        if (position < sizeBytes) throw cut();
      } catch (error) {
        left.signal.throwIfAborted();
        body.destroy();
        const facts = errorFacts(error);
        if (!facts || !isPassing(facts) || ++fruitless > fruitlessTries) throw failureOf(bucket, kind, error);
        await sleep(backoffMs(fruitless - 1, bucket.patience.backoff), left.signal);
        const span = { begin: begin + position, end: begin + sizeBytes - 1, etag };
        const again = await ask(bucket, kind, span, left.signal);
        if (!again) throw new Failure("DIGEST_MISMATCH", `object ${kind.key} ended after ${position} bytes`);
        body = again.body;
      }
    }
  }

  const source = chunks();
  const onAbort = () => stream.destroy(asError(signal.reason));
  const stream = new Readable({
    highWaterMark: chunkBytes,
    read() {
      source.next().then(
        ({ value, done }) => void stream.push(done ? null : value),
        (error: unknown) => void stream.destroy(asError(error)),
      );
    },
    destroy(error, callback) {
      signal.removeEventListener("abort", onAbort);
      left.abort(error ?? new Error("the reader left"));
      body.destroy();
      callback(error);
    },
  });
  // Its own errors are told by what waits for its bytes.
  body.on("error", () => {});
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return stream;
}

/** Chunks of a MiB out of what a socket gives. Fails with a TimeoutError when nothing comes. */
async function* gather(body: Readable, idleMs: number, signal: AbortSignal): AsyncGenerator<Buffer, void> {
  body.on("error", () => {});
  for (let chunk; (chunk = await nextChunk(body, idleMs, signal));) yield chunk;
}

/** The next one, undefined at the end. What came before a failure is good, and whoever asks next is told of it. */
function nextChunk(body: Readable, idleMs: number, signal: AbortSignal): Promise<Buffer | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer | undefined>();
  const gathered = Buffer.allocUnsafeSlow(chunkBytes);
  const copied: Buffer[] = [];
  let filled = 0;
  const settle = (failed?: Error) => {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    body.pause().off("data", onData).off("end", onEnd).off("error", settle).off("close", onClose);
    // Not here: the parser of HTTP, which may be what called, still points into them.
    setImmediate(() => copied.forEach(freeChunk));
    if (filled > 0) resolve(filled === chunkBytes ? gathered : Buffer.from(gathered.subarray(0, filled)));
    else if (failed) reject(failed);
    else resolve(undefined);
  };
  const onData = (part: Buffer) => {
    timer.refresh();
    const taken = part.copy(gathered, filled);
    filled += taken;
    if (taken === part.length) copied.push(part);
    if (filled === chunkBytes) settle();
    // Once nobody listens, or it would come back at once.
    if (taken < part.length) body.unshift(part.subarray(taken));
  };
  const onEnd = () => settle();
  const onClose = () => settle(body.errored ?? cut());
  const onAbort = () => settle(asError(signal.reason));
  const timer = setTimeout(
    () => body.destroy(new DOMException("the server stopped in the middle", "TimeoutError")),
    idleMs,
  );
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  else if (body.readableEnded) onEnd();
  else if (body.destroyed) onClose();
  else body.on("data", onData).on("end", onEnd).on("error", settle).on("close", onClose).resume();
  return promise;
}

function cut(): Error {
  return Object.assign(new Error("the body ended early"), { code: "ECONNRESET" });
}

function asError(cause: unknown): Error {
  return cause instanceof Error ? cause : new Error("reading was stopped", { cause });
}
