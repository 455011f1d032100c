import { ListMultipartUploadsCommand, ListObjectsV2Command, ListPartsCommand } from "@aws-sdk/client-s3";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import type { ListedObject, Unfinished } from "../storage.ts";
import type { Bucket } from "./bucket.ts";
import { abortUpload } from "./put/multipart.ts";
import { type RequestKind, send } from "./request.ts";

/** The objects of a prefix, a page of 1,000 in memory; see Storage.list. */
export async function* listObjects(
  bucket: Bucket,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<ListedObject, void> {
  const kind: RequestKind = { purpose: "read", doing: "list", action: "s3:ListBucket", key: prefix };
  const target = { Bucket: bucket.location.bucket, Prefix: bucket.prefix + prefix, EncodingType: "url" } as const;
  for (let token: string | undefined, isMore = true; isMore;) {
    signal.throwIfAborted();
    const page = await send(bucket, kind, signal, (client, options) =>
      client.send(new ListObjectsV2Command({ ...target, ...(token ? { ContinuationToken: token } : {}) }), options),
    );
    for (const { Key, Size } of page.Contents ?? []) {
      yield { key: decodeKey(bucket, Key), sizeBytes: Size ?? 0 };
    }
    isMore = page.IsTruncated ?? false;
    if (isMore && page.NextContinuationToken === token) endless(bucket);
    token = page.NextContinuationToken;
  }
}

/** The uploads that were begun and not ended, below a folder; see Storage.listUnfinished. */
export async function* listUploads(
  bucket: Bucket,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<Unfinished, void> {
  const kind: RequestKind = { purpose: "read", doing: "list", action: "s3:ListBucketMultipartUploads", key: prefix };
  const target = { Bucket: bucket.location.bucket, Prefix: bucket.prefix + prefix };
  for (let marker: { KeyMarker?: string; UploadIdMarker?: string } = {}, isMore = true; isMore;) {
    signal.throwIfAborted();
    const page = await send(bucket, kind, signal, (client, options) =>
      client.send(new ListMultipartUploadsCommand({ ...target, ...marker, EncodingType: "url" }), options),
    );
    for (const { Key, UploadId = "", Initiated } of page.Uploads ?? []) {
      const key = decodeKey(bucket, Key);
      const sizeBytes = await uploadedBytes(bucket, key, UploadId, signal);
      if (sizeBytes === "gone") continue;
      yield { id: `${UploadId} ${key}`, key, sizeBytes, modifiedTime: Initiated ?? new Date(0) };
    }
    isMore = page.IsTruncated ?? false;
    const next = { KeyMarker: decode(page.NextKeyMarker ?? ""), UploadIdMarker: page.NextUploadIdMarker ?? "" };
    if (isMore && next.KeyMarker === marker.KeyMarker && next.UploadIdMarker === marker.UploadIdMarker) endless(bucket);
    marker = next;
  }
}

/** Undefined when nobody may look. */
async function uploadedBytes(bucket: Bucket, key: string, UploadId: string, signal: AbortSignal) {
  const kind: RequestKind = { purpose: "read", doing: "list", action: "s3:ListMultipartUploadParts", key };
  const target = { Bucket: bucket.location.bucket, Key: bucket.prefix + key, UploadId };
  let sum = 0;
  try {
    for (let marker: string | undefined, isMore = true; isMore;) {
      const page = await send(bucket, kind, signal, (client, options) =>
        client.send(new ListPartsCommand({ ...target, ...(marker ? { PartNumberMarker: marker } : {}) }), options),
      );
      for (const { Size } of page.Parts ?? []) sum += Size ?? 0;
      isMore = (page.IsTruncated ?? false) && page.NextPartNumberMarker !== marker;
      marker = page.NextPartNumberMarker;
    }
    return sum;
  } catch (error) {
    if (isFailure(error, "REPOSITORY_NOT_READABLE")) return undefined;
    // It was ended or aborted meanwhile.
    if (isFailure(error, "OBJECT_MISSING")) return "gone";
    throw error;
  }
}

/** Aborts uploads; see Storage.removeUnfinished. */
export async function removeUploads(
  bucket: Bucket,
  unfinished: readonly Unfinished[],
  signal: AbortSignal,
): Promise<number> {
  let removed = 0;
  for (const { id } of unfinished) {
    signal.throwIfAborted();
    const [uploadId = "", ...rest] = id.split(" ");
    if (await abortUpload(bucket, { key: rest.join(" "), uploadId }, signal)) removed++;
  }
  return removed;
}

function decodeKey({ prefix, name }: Bucket, encoded: string | undefined): string {
  const key = decode(encoded ?? "");
  if (key.startsWith(prefix)) return key.slice(prefix.length);
  return fail("REPOSITORY_IO_ERROR", `repository ${name}: the server listed ${JSON.stringify(key)} outside of it`);
}

/** Keys come percent-encoded, because XML cannot hold all of them; a plus that was meant is %2B. */
function decode(encoded: string): string {
  return decodeURIComponent(encoded.replaceAll("+", " "));
}

function endless({ name }: Bucket): never {
  fail("REPOSITORY_IO_ERROR", `repository ${name}: the server's listing does not go on`);
}
