import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import type { Bucket } from "../bucket.ts";
import { checkEncryption, newObject } from "./new-object.ts";
import type { Part } from "./parts.ts";
import { checkSize, type Putting, refuseTaken } from "./putting.ts";
import { send } from "../request.ts";
import { signBody } from "./sign-body.ts";
import { headObject } from "../stat.ts";

const partsInFlight = 3;
const cleanUpMs = 30_000;
// An aborted put settles at once, but a server that answers gets the time to forget it.
const settleMs = 1_000;

/** An upload that the server has begun. */
interface Upload extends Putting {
  readonly uploadId: string;
}

/** Stores a body of several parts, given its first one; resolves with its size when the object is there. */
export async function putParts(
  putting: Putting,
  first: Part,
  next: (number: number, signal: AbortSignal) => Promise<Part>,
): Promise<number> {
  let upload: Upload;
  try {
    upload = await createUpload(putting);
  } catch (error) {
    first[Symbol.dispose]();
    throw error;
  }
  try {
    const { parts, sizeBytes } = await uploadParts(upload, first, next);
    if (putting.options.ifAbsent) await refuseTaken(putting);
    await completeUpload(upload, parts, sizeBytes);
    return sizeBytes;
  } catch (error) {
    const cleaning = abortUpload(putting.bucket, upload, AbortSignal.timeout(cleanUpMs)).then(
      () => {},
      // What it could not remove `listUnfinished` shows; the first error says more.
      () => {},
    );
    putting.leave(cleaning);
    await settledWithin(cleaning, putting.options.signal.aborted ? settleMs : cleanUpMs);
    throw error;
  }
}

async function settledWithin(cleaning: Promise<void>, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([cleaning, promise]);
  clearTimeout(timer);
}

async function createUpload(putting: Putting): Promise<Upload> {
  const { bucket, key, options } = putting;
  const answer = await send(
    bucket,
    { purpose: "write", doing: "write", action: "s3:PutObject", key },
    options.signal,
    (client, attempt) => client.send(new CreateMultipartUploadCommand(newObject(putting)), attempt),
  );
  const upload = { ...putting, uploadId: answer.UploadId ?? "" };
  try {
    checkEncryption(bucket, key, answer.ServerSideEncryption);
  } catch (error) {
    await abortUpload(bucket, upload, options.signal);
    throw error;
  }
  return upload;
}

/** Several parts are on their way while the next one is read; the budget bounds how many. */
async function uploadParts(
  upload: Upload,
  first: Part,
  next: (number: number, signal: AbortSignal) => Promise<Part>,
): Promise<{ parts: CompletedPart[]; sizeBytes: number }> {
  using work = linkSignals(upload.options.signal);
  const parts: CompletedPart[] = [];
  const inFlight = new Set<Promise<void>>();
  let sizeBytes = 0;
  const begin = (part: Part, number: number) => {
    sizeBytes += part.sizeBytes;
    const sending = uploadPart(upload, part, number, work.signal)
      .then(
        (ETag) => void (parts[number - 1] = { ETag, PartNumber: number }),
        // The first failure stops the others and the reading.
        (error: unknown) => work.abort(error),
      )
      .finally(() => {
        part[Symbol.dispose]();
        inFlight.delete(sending);
      });
    inFlight.add(sending);
  };
  try {
    begin(first, 1);
    for (let part = first, number = 2; !part.isLast; number++) {
      while (inFlight.size >= partsInFlight) await Promise.race(inFlight);
      part = await next(number, work.signal);
      begin(part, number);
    }
  } catch (error) {
    work.abort(error);
  }
  await Promise.all(inFlight);
  work.signal.throwIfAborted();
  return { parts, sizeBytes };
}

async function uploadPart(
  { bucket, key, uploadId }: Upload,
  part: Part,
  number: number,
  signal: AbortSignal,
): Promise<string> {
  const target = { Bucket: bucket.location.bucket, Key: bucket.prefix + key, UploadId: uploadId, PartNumber: number };
  const kind = { purpose: "write", doing: "write", action: "s3:PutObject", key, sizeBytes: part.sizeBytes } as const;
  const { ETag } = await send(bucket, kind, signal, (client, attempt) => {
    const command = new UploadPartCommand({
      ...target,
      Body: part.open(),
      ContentLength: part.sizeBytes,
      ContentMD5: part.md5.base64,
    });
    signBody(command, part);
    return client.send(command, attempt);
  });
  return (
    ETag ?? fail("REPOSITORY_IO_ERROR", `repository ${bucket.name}: part ${number} of ${key} was stored without ETag`)
  );
}

/** The answer may be lost, say no although it was done, or be an error in a 200: what is there counts. */
async function completeUpload(upload: Upload, parts: CompletedPart[], sizeBytes: number): Promise<void> {
  const { bucket, key, uploadId, options, token } = upload;
  const { ifAbsent, signal } = options;
  const isThere = async () => {
    const found = await headObject(bucket, key, signal);
    return typeof found === "object" && found.token === token && found.sizeBytes === sizeBytes;
  };
  const answer = await send(
    bucket,
    { purpose: "write", doing: "write", action: "s3:PutObject", key, workMs: bucket.patience.completeMs },
    signal,
    (client, attempt) => {
      const command = new CompleteMultipartUploadCommand({
        Bucket: bucket.location.bucket,
        Key: bucket.prefix + key,
        UploadId: uploadId,
        MultipartUpload: { Parts: parts },
        ...(ifAbsent ? { IfNoneMatch: "*" } : {}),
      });
      return client.send(command, attempt);
    },
    async ({ status }) => {
      if (await isThere()) return "stored";
      if (status === 412) fail("OBJECT_EXISTS", `repository ${bucket.name}: ${key} exists already`);
      return undefined;
    },
  );
  if (answer !== "stored") await checkSize(upload, sizeBytes);
}

/** Makes the server forget an upload; gives false when it did not know it. */
export async function abortUpload(
  bucket: Bucket,
  { key, uploadId }: { key: string; uploadId: string },
  signal: AbortSignal,
): Promise<boolean> {
  const kind = { purpose: "delete", doing: "delete", action: "s3:AbortMultipartUpload", key } as const;
  const target = { Bucket: bucket.location.bucket, Key: bucket.prefix + key, UploadId: uploadId };
  try {
    await send(bucket, kind, signal, (client, attempt) =>
      client.send(new AbortMultipartUploadCommand(target), attempt),
    );
    return true;
  } catch (error) {
    if (isFailure(error, "OBJECT_MISSING")) return false;
    throw error;
  }
}
