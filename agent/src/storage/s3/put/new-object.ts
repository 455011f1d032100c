import type { ServerSideEncryption, StorageClass } from "@aws-sdk/client-s3";
import { fail } from "@coppice/proto/kit/failure";
import type { PutOptions } from "../../storage.ts";
import type { Bucket } from "../bucket.ts";

/** Metadata names; the server gives them back in lower case. */
export const tokenName = "coppice-put";
const operationName = "coppice-operation";
export const contentName = "coppice-content-sha256";
export const noteName = "coppice-content-note";

interface New {
  readonly bucket: Bucket;
  readonly key: string;
  readonly token: string;
  readonly operationId: string;
  readonly options: Pick<PutOptions, "contentSha256" | "contentNote">;
}

/** What every new object is made with, by one request or by an upload in parts. */
export function newObject({ bucket: { location, prefix }, key, token, operationId, options }: New) {
  const { bucket, storageClass, serverSideEncryption, kmsKeyId } = location;
  return {
    Bucket: bucket,
    Key: prefix + key,
    ContentType: "application/octet-stream",
    Metadata: {
      [tokenName]: token,
      [operationName]: operationId,
      ...(options.contentSha256 === undefined ? {} : { [contentName]: options.contentSha256 }),
      ...(options.contentNote === undefined ? {} : { [noteName]: options.contentNote }),
    },
    // The location's rules are these enumerations or wider; the server has the last word.
    ...(storageClass === "" ? {} : { StorageClass: storageClass as StorageClass }),
    ...(serverSideEncryption === "" ? {} : { ServerSideEncryption: serverSideEncryption as ServerSideEncryption }),
    ...(kmsKeyId === "" ? {} : { SSEKMSKeyId: kmsKeyId }),
  };
}

/** Fails with REPOSITORY_SETTINGS_REFUSED when the server took an object and did not encrypt it as it was asked. */
export function checkEncryption({ location, name }: Bucket, key: string, done: string | undefined): void {
  const asked = location.serverSideEncryption;
  if (asked === "" || done === asked) return;
  fail(
    "REPOSITORY_SETTINGS_REFUSED",
    `repository ${name}: the server was asked to encrypt ${key} by ${asked} and answered ${done ?? "nothing of it"}`,
    {
      hint: "use a server that encrypts, or take the encryption out of the location and give the repository recipients",
    },
  );
}
