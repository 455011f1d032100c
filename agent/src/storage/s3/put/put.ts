import { randomUUID } from "node:crypto";
import { PutObjectCommand } from "@aws-sdk/client-s3";
import { fail } from "@coppice/proto/kit/failure";
import { parseObjectKey } from "../../object-key.ts";
import { releaseBody } from "../../release-body.ts";
import type { Body, PutOptions } from "../../storage.ts";
import { deleteOne } from "../delete.ts";
import { isAnswerLost } from "../error-facts.ts";
import { send } from "../request.ts";
import { headObject } from "../stat.ts";
import { putParts } from "./multipart.ts";
import { checkEncryption, newObject } from "./new-object.ts";
import { type Part, readParts } from "./parts.ts";
import { checkSize, type Putter, type Putting, refuseTaken } from "./putting.ts";
import { signBody } from "./sign-body.ts";

/** Stores one object; see Storage.put. One part is one request, more are a multipart upload. */
export async function putObject(
  putter: Putter,
  key: string,
  body: Body,
  options: PutOptions,
): Promise<{ sizeBytes: number }> {
  const { bucket, budget } = putter;
  const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]();
  try {
    parseObjectKey(key);
    const putting: Putting = { ...putter, key, options, token: randomUUID() };
    if (options.ifAbsent && !putter.conditionalPut) await refuseTaken(putting);
    const next = readParts({
      chunks,
      budget,
      wantsSha256: bucket.signsBodies,
      mostBytes: options.mostBytes,
      ownsChunks: options.ownsChunks ?? false,
    });
    const first = await next(1, options.signal);
    if (!first.isLast) return { sizeBytes: await putParts(putting, first, next) };
    using part = first;
    await putWhole(putting, part);
    return { sizeBytes: part.sizeBytes };
  } finally {
    releaseBody(body, chunks);
  }
}

async function putWhole(putting: Putting, part: Part): Promise<void> {
  const { bucket, key, options, token } = putting;
  const { ifAbsent, signal } = options;
  let wasAnswerLost = false;
  const put = (condition: { IfNoneMatch?: string }) =>
    send(
      bucket,
      { purpose: "write", doing: "write", action: "s3:PutObject", key, sizeBytes: part.sizeBytes },
      signal,
      (client, attempt) => {
        const command = new PutObjectCommand({
          ...newObject(putting),
          ...condition,
          Body: part.open(),
          ContentLength: part.sizeBytes,
          ContentMD5: part.md5.base64,
        });
        signBody(command, part);
        return client.send(command, attempt);
      },
      async (facts) => {
        if (facts.status === 412) {
          const found = wasAnswerLost ? await headObject(bucket, key, signal) : undefined;
          if (typeof found === "object" && found.token === token) return "stored";
          fail("OBJECT_EXISTS", `repository ${bucket.name}: ${key} exists already`);
        }
        if (facts.status === 501 && condition.IfNoneMatch !== undefined) return "unconditional";
        wasAnswerLost ||= isAnswerLost(facts);
        return undefined;
      },
    );
  let outcome = await put(ifAbsent ? { IfNoneMatch: "*" } : {});
  // It knows no conditions: that nothing is there was looked at before.
  if (outcome === "unconditional") outcome = await put({});
  if (typeof outcome === "string") return;
  try {
    checkEncryption(bucket, key, outcome.ServerSideEncryption);
  } catch (error) {
    await deleteOne(bucket, key, signal);
    throw error;
  }
  if (outcome.ETag?.replaceAll('"', "") !== part.md5.hex) await checkSize(putting, part.sizeBytes);
}
