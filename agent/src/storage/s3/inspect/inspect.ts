import { randomUUID } from "node:crypto";
import { CreateMultipartUploadCommand } from "@aws-sdk/client-s3";
import { type Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Bucket } from "../bucket.ts";
import { probeConditionalPut } from "./conditional-put.ts";
import { deleteOne } from "../delete.ts";
import { type Protection, readProtection } from "./protection.ts";
import { getObject } from "../get.ts";
import { listObjects, listUploads } from "../list.ts";
import { abortUpload } from "../put/multipart.ts";
import { send } from "../request.ts";

/** A right that was tried and is not there. */
export interface MissingRight {
  /** As policies spell it: s3:DeleteObject. */
  readonly action: string;
  /** What the server answered. */
  readonly failure: Failure;
}

/** What was found out about a bucket and what its keys may do; "unknown" where nobody may look. */
export interface BucketFacts extends Protection {
  readonly name: string;
  readonly region: string;
  /** How far the server's clock is ahead of this host's, in milliseconds. */
  readonly clockAheadMs: number | undefined;
  readonly missing: readonly MissingRight[];
  /** Whether a conditional put has one winner here; undefined when nothing may be put. */
  readonly conditionalPut: boolean | undefined;
  /** Keys of probe objects that could not be deleted again. */
  readonly left: readonly string[];
}

/**
 * Tries each right by really using it on probe objects below `probePrefix`, and asks what the bucket is set to. Trouble
 * is part of what it gives; it throws only what no request stands for, and the signal's reason.
 */
export async function inspectBucket(bucket: Bucket, probePrefix: string, signal: AbortSignal): Promise<BucketFacts> {
  const key = `${probePrefix}${randomUUID()}`;
  const missing: MissingRight[] = [];
  const attempt = async <T>(action: string, run: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await run();
    } catch (failure) {
      signal.throwIfAborted();
      if (!isFailure(failure)) throw failure;
      missing.push({ action, failure });
      return undefined;
    }
  };
  const done = async (action: string, run: () => Promise<unknown>) =>
    (await attempt(action, () => run().then(() => true))) === true;

  const conditionalPut = await attempt("s3:PutObject", () => probeConditionalPut(bucket, key, signal));
  const left: string[] = [];
  if (conditionalPut !== undefined) {
    await done("s3:GetObject", async () => {
      for await (const _ of await getObject(bucket, key, undefined, signal));
    });
  }
  await done("s3:ListBucket", () => listObjects(bucket, probePrefix, signal).next());
  if (conditionalPut !== undefined && !(await done("s3:DeleteObject", () => deleteOne(bucket, key, signal)))) {
    left.push(key);
  }
  await done("s3:ListBucketMultipartUploads", () => listUploads(bucket, probePrefix, signal).next());
  if (conditionalPut !== undefined) {
    const upload = await attempt("s3:PutObject", () => beginUpload(bucket, key, signal));
    if (upload !== undefined) {
      const isAborted = await done("s3:AbortMultipartUpload", () => abortUpload(bucket, upload, signal));
      if (!isAborted) left.push(`unfinished ${key}`);
    }
  }
  return {
    name: bucket.name,
    region: bucket.region,
    clockAheadMs: bucket.clock.aheadMs,
    missing,
    conditionalPut,
    ...(await readProtection(bucket, signal)),
    left,
  };
}

async function beginUpload(bucket: Bucket, key: string, signal: AbortSignal) {
  const target = { Bucket: bucket.location.bucket, Key: bucket.prefix + key };
  const kind = { purpose: "write", doing: "write", action: "s3:PutObject", key } as const;
  const answer = await send(bucket, kind, signal, (client, options) =>
    client.send(new CreateMultipartUploadCommand(target), options),
  );
  return { key, uploadId: answer.UploadId ?? "" };
}
