import { GetObjectCommand, HeadObjectCommand } from "@aws-sdk/client-s3";
import { isFailure } from "@coppice/proto/kit/failure";
import { parseObjectKey } from "../object-key.ts";
import type { Bucket } from "./bucket.ts";
import { contentName, noteName, tokenName } from "./put/new-object.ts";
import { type RequestKind, send, sendOnce } from "./request.ts";

/** What a look at an object shows. */
export interface Seen {
  readonly sizeBytes: number;
  readonly etag: string;
  /** Of the put that stored it, if it was one of ours. */
  readonly token: string | undefined;
  /** As its put gave them. */
  readonly contentSha256: string | undefined;
  readonly contentNote: string | undefined;
}

/** Size of an object, or undefined when there is none; see Storage.stat. */
export async function statObject(bucket: Bucket, key: string, signal: AbortSignal): Promise<Seen | undefined> {
  parseObjectKey(key);
  signal.throwIfAborted();
  const kind: RequestKind = { purpose: "read", doing: "read", action: "s3:GetObject", key };
  const target = { Bucket: bucket.location.bucket, Key: bucket.prefix + key };
  const found = await send(
    bucket,
    kind,
    signal,
    async (client, options) => {
      const { ContentLength = 0, ETag = "", Metadata } = await client.send(new HeadObjectCommand(target), options);
      const { [tokenName]: token, [contentName]: contentSha256, [noteName]: contentNote } = Metadata ?? {};
      return { sizeBytes: ContentLength, etag: ETag, token, contentSha256, contentNote };
    },
    async ({ status, code }) => {
      if (status === 404) return "missing";
      if (status === undefined || status >= 500 || code !== "") return undefined;
      // The answer to a HEAD does not say why. One to a GET does, and it is the one that fails then.
      return sendOnce(bucket, kind, signal, async (client, options) => {
        const { Body } = await client.send(new GetObjectCommand({ ...target, Range: "bytes=0-0" }), options);
        await Body?.transformToByteArray();
        return undefined;
      });
    },
  );
  return found === "missing" ? undefined : found;
}

/** The same for a key that is being written: whoever may only put is not told, and gets "denied". */
export async function headObject(
  bucket: Bucket,
  key: string,
  signal: AbortSignal,
): Promise<Seen | "denied" | undefined> {
  try {
    return await statObject(bucket, key, signal);
  } catch (error) {
    if (isFailure(error, "REPOSITORY_NOT_READABLE")) return "denied";
    throw error;
  }
}
