import { ListObjectsV2Command } from "@aws-sdk/client-s3";
import type { S3Location } from "@coppice/proto/gen/coppice/common/v1/location";
import { fail, isFailure } from "@coppice/proto/kit/failure";
import { openBudget, usualBudgetBytes } from "../../budget.ts";
import type { StorageAccess } from "../access.ts";
import type { Storage } from "../storage.ts";
import { type Bucket, openBucket } from "./bucket.ts";
import { deleteObjects } from "./delete.ts";
import { bucketFindings } from "./inspect/findings.ts";
import { getObject } from "./get.ts";
import { inspectBucket } from "./inspect/inspect.ts";
import { listObjects, listUploads, removeUploads } from "./list.ts";
import { whatStays } from "./inspect/protection.ts";
import { type Patience, usualPatience } from "./patience.ts";
import { largestPartBytes } from "./put/parts.ts";
import { putObject } from "./put/put.ts";
import { send } from "./request.ts";
import { statObject } from "./stat.ts";

const thawed = ["GLACIER", "DEEP_ARCHIVE"];

/**
 * Opens a prefix of a bucket as a storage. Fails with REPOSITORY_UNREACHABLE when there is no such bucket or server,
 * with REPOSITORY_CREDENTIALS_REFUSED, REPOSITORY_CLOCK_SKEWED or REPOSITORY_SETTINGS_REFUSED; a key that may not list
 * is no failure.
 */
export async function openS3(
  location: S3Location,
  access: StorageAccess,
  patience: Patience = usualPatience,
): Promise<Storage> {
  const { operationId, credentials = {}, budget = openBudget(usualBudgetBytes), signal } = access;
  const conditionalPut = access.conditionalPut ?? false;
  if (thawed.includes(location.storageClass)) {
    fail("REPOSITORY_SETTINGS_REFUSED", `objects of storage class ${location.storageClass} cannot be read at once`, {
      hint: "choose a storage class that needs no thawing, such as STANDARD_IA or GLACIER_IR",
    });
  }
  const bucket = await openBucket(location, credentials, patience);
  try {
    await lookIn(bucket, signal);
  } catch (error) {
    bucket[Symbol.dispose]();
    throw error;
  }
  const cleaning = new Set<Promise<void>>();
  const leave = (one: Promise<void>) => {
    cleaning.add(one);
    void one.finally(() => cleaning.delete(one));
  };
  const putter = { bucket, operationId, budget, conditionalPut, leave };

  return {
    name: bucket.name,
    capabilities: {
      putIfAbsent: conditionalPut,
      // Completing a multipart upload keeps no condition everywhere, whatever it says.
      putIfAbsentBytes: largestPartBytes,
      freeBytes: false,
      countsDeleted: false,
      keepsDigests: true,
      // Content-MD5 of each body, and of each part of one.
      comparesPuts: true,
    },
    put: (key, body, options) => putObject(putter, key, body, options),
    get: (key, { signal: by, range }) => getObject(bucket, key, range, by),
    async stat(key, by) {
      const found = await statObject(bucket, key, by);
      if (found === undefined) return undefined;
      const { sizeBytes, contentSha256, contentNote } = found;
      return {
        sizeBytes,
        ...(contentSha256 === undefined ? {} : { contentSha256 }),
        ...(contentNote === undefined ? {} : { contentNote }),
      };
    },
    list: (prefix, by) => listObjects(bucket, prefix, by),
    deleteMany: (keys, by) => deleteObjects(bucket, keys, by),
    whatStays: (by) => whatStays(bucket, by),
    listUnfinished: (prefix, by) => listUploads(bucket, prefix, by),
    removeUnfinished: (unfinished, by) => removeUploads(bucket, unfinished, by),
    async freeBytes(by) {
      by.throwIfAborted();
      return undefined;
    },
    inspect: async (probePrefix, by) => bucketFindings(await inspectBucket(bucket, probePrefix, by)),
    async [Symbol.asyncDispose]() {
      await Promise.all(cleaning);
      bucket[Symbol.dispose]();
    },
  };
}

/** Lists one key: unlike any other request its answer names what is wrong with the bucket, the key or the clock. */
async function lookIn(bucket: Bucket, signal: AbortSignal): Promise<void> {
  const target = { Bucket: bucket.location.bucket, Prefix: bucket.prefix, MaxKeys: 1 };
  const kind = { purpose: "read", doing: "list", action: "s3:ListBucket", key: "" } as const;
  try {
    await send(bucket, kind, signal, (client, options) => client.send(new ListObjectsV2Command(target), options));
  } catch (error) {
    if (!isFailure(error, "REPOSITORY_NOT_READABLE")) throw error;
  }
}
