import type { S3Client } from "@aws-sdk/client-s3";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { linkSignals, raceSignal } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Bucket, Purpose } from "./bucket.ts";
import { type ErrorFacts, errorFacts, isPassing } from "./error-facts.ts";
import { type Attempted, s3Failure } from "./failure.ts";

/** One request, as what it is for, needs and may take. */
export interface RequestKind extends Pick<Attempted, "doing" | "action" | "key"> {
  readonly purpose: Purpose;
  /** Bytes that it carries, for the time that it may take; 0 when left out. */
  readonly sizeBytes?: number;
  /** Milliseconds that the server may work before it answers, beyond the usual. */
  readonly workMs?: number;
}

/** Sends it once, with the signal that ends it. */
export type Send<T> = (client: S3Client, options: { abortSignal: AbortSignal }) => Promise<T>;

/**
 * Sends a request within its time; whatever goes wrong comes out as it was thrown. A hanging one is a TimeoutError, and
 * an abort settles at once with its reason.
 */
export async function sendOnce<T>(
  bucket: Bucket,
  { purpose, sizeBytes = 0, workMs = 0 }: RequestKind,
  signal: AbortSignal,
  send: Send<T>,
): Promise<T> {
  const { idleMs, connectMs, slowestBytesPerSecond } = bucket.patience;
  using limit = linkSignals(signal);
  const wholeMs = connectMs + idleMs + workMs + (sizeBytes / slowestBytesPerSecond) * 1000;
  const timer = setTimeout(() => limit.abort(new DOMException("the server did not answer", "TimeoutError")), wholeMs);
  try {
    const answer = await raceSignal(send(bucket.clients[purpose], { abortSignal: limit.signal }), limit.signal);
    bucket.accepted.add(purpose);
    return answer;
  } finally {
    clearTimeout(timer);
  }
}

/** What to do about an error: give its outcome, or let the request be repeated or fail as usual. */
export type Look<F> = (facts: ErrorFacts) => Promise<F | undefined>;

/**
 * Sends a request, and again after errors that pass, with growing waits and as long as the bucket's patience lasts.
 * Fails as `s3Failure` says or with the signal's reason. `look` sees each error first.
 */
export async function send<T, F = never>(
  bucket: Bucket,
  kind: RequestKind,
  signal: AbortSignal,
  once: Send<T>,
  look?: Look<F>,
): Promise<T | F> {
  const { giveUpMs, backoff } = bucket.patience;
  const startedAt = performance.now();
  const isPatient = () => performance.now() - startedAt < giveUpMs + (kind.workMs ?? 0);
  for (let repetition = 0; ; repetition++) {
    try {
      return await sendOnce(bucket, kind, signal, once);
    } catch (error) {
      signal.throwIfAborted();
      const facts = errorFacts(error);
      const found = facts && look ? await lookAt(bucket, kind, () => look(facts)) : undefined;
      if (found !== undefined) return found;
      if (!facts || !mayPass(bucket, kind, facts) || !isPatient()) throw failureOf(bucket, kind, error);
      await sleep(backoffMs(repetition, backoff), signal);
    }
  }
}

/** A gateway that cannot look keys up for a while says that it knows none (seen of Ceph's, with its storage stalled). */
function mayPass(bucket: Bucket, { purpose }: RequestKind, facts: ErrorFacts): boolean {
  return isPassing(facts) || (facts.code === "InvalidAccessKeyId" && bucket.accepted.has(purpose));
}

/** A look may send requests of its own; their errors are this one's. */
async function lookAt<F>(bucket: Bucket, kind: RequestKind, look: () => Promise<F>): Promise<F> {
  try {
    return await look();
  } catch (error) {
    throw failureOf(bucket, kind, error);
  }
}

/** The failure that an error of a request to this bucket stands for. */
export function failureOf(bucket: Bucket, { purpose, doing, action, key }: RequestKind, error: unknown): unknown {
  const { name, clock } = bucket;
  const wasAccepted = bucket.accepted.has(purpose);
  return s3Failure(error, { doing, action, key, name, now: new Date(), wasAccepted, serverAheadMs: clock.aheadMs });
}
