import { randomUUID } from "node:crypto";
import {
  CreateMultipartUploadCommand,
  GetBucketVersioningCommand,
  GetObjectLockConfigurationCommand,
} from "@aws-sdk/client-s3";
import { type Failure, isFailure } from "@coppice/proto/kit/failure";
import type { Bucket } from "../bucket.ts";
import { probeConditionalPut } from "./conditional-put.ts";
import { deleteOne } from "../delete.ts";
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
export interface BucketFacts {
  readonly name: string;
  readonly region: string;
  /** How far the server's clock is ahead of this host's, in milliseconds. */
  readonly clockAheadMs: number | undefined;
  readonly missing: readonly MissingRight[];
  /** Whether a conditional put has one winner here; undefined when nothing may be put. */
  readonly conditionalPut: boolean | undefined;
  readonly versioning: "on" | "suspended" | "off" | "unknown";
  readonly objectLock: "on" | "off" | "unknown";
  /** The lock that new objects get by themselves, such as "COMPLIANCE 30 days". */
  readonly lockRule: string | undefined;
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
    versioning: await versioningOf(bucket, signal),
    ...(await lockOf(bucket, signal)),
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

async function versioningOf(bucket: Bucket, signal: AbortSignal): Promise<BucketFacts["versioning"]> {
  const kind = { purpose: "read", doing: "read", action: "s3:GetBucketVersioning", key: "" } as const;
  const target = { Bucket: bucket.location.bucket };
  const answer = await send(
    bucket,
    kind,
    signal,
    (client, options) => client.send(new GetBucketVersioningCommand(target), options),
    async ({ status }) => (status !== undefined && status < 500 ? "unknown" : undefined),
  );
  if (answer === "unknown") return answer;
  return answer.Status === "Enabled" ? "on" : answer.Status === "Suspended" ? "suspended" : "off";
}

async function lockOf(bucket: Bucket, signal: AbortSignal): Promise<Pick<BucketFacts, "objectLock" | "lockRule">> {
  const kind = { purpose: "read", doing: "read", action: "s3:GetBucketObjectLockConfiguration", key: "" } as const;
  const target = { Bucket: bucket.location.bucket };
  const answer = await send(
    bucket,
    kind,
    signal,
    (client, options) => client.send(new GetObjectLockConfigurationCommand(target), options),
    // Ceph answers 409 where others answer 404 to a bucket without.
    async ({ status, code }) =>
      code === "ObjectLockConfigurationNotFoundError" || status === 409
        ? "off"
        : status !== undefined && (status < 500 || status === 501)
          ? "unknown"
          : undefined,
  );
  if (answer === "off" || answer === "unknown") return { objectLock: answer, lockRule: undefined };
  const { ObjectLockEnabled, Rule } = answer.ObjectLockConfiguration ?? {};
  const { Mode, Days, Years } = Rule?.DefaultRetention ?? {};
  const lockRule = Mode && `${Mode} ${Years === undefined ? `${Days} days` : `${Years} years`}`;
  return { objectLock: ObjectLockEnabled === "Enabled" ? "on" : "off", lockRule };
}
