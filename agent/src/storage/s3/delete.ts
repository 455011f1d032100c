import { createHash } from "node:crypto";
import { DeleteObjectCommand, DeleteObjectsCommand } from "@aws-sdk/client-s3";
import { parseObjectKey } from "../object-key.ts";
import type { Bucket } from "./bucket.ts";
import { failureOf, type RequestKind, send } from "./request.ts";

const batchKeys = 1000;

const kindOf = (key: string): RequestKind => ({ purpose: "delete", doing: "delete", action: "s3:DeleteObject", key });

/** Deletes objects; see Storage.deleteMany. Gives how many keys were named. */
export async function deleteObjects(bucket: Bucket, keys: readonly string[], signal: AbortSignal): Promise<number> {
  signal.throwIfAborted();
  for (const key of keys) parseObjectKey(key);
  const named = [...new Set(keys)];
  for (let index = 0; index < named.length; index += batchKeys) {
    await deleteBatch(bucket, named.slice(index, index + batchKeys), signal);
  }
  return named.length;
}

/** Deletes one object; one that is not there is no error. */
export async function deleteOne(bucket: Bucket, key: string, signal: AbortSignal): Promise<void> {
  const target = { Bucket: bucket.location.bucket, Key: bucket.prefix + key };
  await send(bucket, kindOf(key), signal, (client, options) => client.send(new DeleteObjectCommand(target), options));
}

async function deleteBatch(bucket: Bucket, keys: readonly string[], signal: AbortSignal): Promise<void> {
  const [first = ""] = keys;
  if (keys.length === 1) return deleteOne(bucket, first, signal);
  const Delete = { Quiet: true, Objects: keys.map((key) => ({ Key: bucket.prefix + key })) };
  const answer = await send(
    bucket,
    kindOf(first),
    signal,
    (client, options) => {
      const command = new DeleteObjectsCommand({ Bucket: bucket.location.bucket, Delete });
      command.middlewareStack.add(
        (next) => (args) => {
          addMd5(args.request);
          return next(args);
        },
        { step: "build", name: "addMd5" },
      );
      return client.send(command, options);
    },
    async ({ status, code }) =>
      status === 501 || status === 405 || code === "MethodNotAllowed" ? "singly" : undefined,
  );
  if (answer === "singly") {
    for (const key of keys) await deleteOne(bucket, key, signal);
    return;
  }
  // What a 200 says of a key that stays.
  for (const { Key = "", Code = "", Message = "" } of answer.Errors ?? []) {
    if (Code === "NoSuchKey") continue;
    const key = Key.slice(bucket.prefix.length);
    const status = Code === "AccessDenied" ? 403 : Code === "InternalError" || Code === "SlowDown" ? 503 : 400;
    if (status === 503) await deleteOne(bucket, key, signal);
    else {
      const error = Object.assign(new Error(Message), { name: Code, $metadata: { httpStatusCode: status } });
      throw failureOf(bucket, kindOf(key), error);
    }
  }
}

/** Older servers know no other digest of a list of keys, and refuse one without. */
function addMd5(request: unknown): void {
  if (typeof request !== "object" || request === null) return;
  const body: unknown = Reflect.get(request, "body");
  const headers: unknown = Reflect.get(request, "headers");
  if (typeof headers !== "object" || headers === null) return;
  if (typeof body === "string" || body instanceof Uint8Array) {
    Reflect.set(headers, "content-md5", createHash("md5").update(body).digest("base64"));
  }
}
