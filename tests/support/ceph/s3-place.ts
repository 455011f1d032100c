import { randomUUID } from "node:crypto";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { S3LocationSchema } from "@coppice/proto/gen/coppice/common/v1/location";
import {
  type StorageCredential,
  StorageCredentialSchema,
} from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import type { Patience } from "../../../agent/src/storage/s3/patience.ts";
import type { CephUser } from "./cluster.ts";
import type { CephLab } from "./lab.ts";

/** Patience with a server on loopback, so that tests of hanging ones are quick. */
export const littlePatience: Patience = {
  connectMs: 1_000,
  idleMs: 1_500,
  giveUpMs: 2_500,
  completeMs: 500,
  slowestBytesPerSecond: 1 << 20,
  backoff: { baseMs: 20, capMs: 200 },
};

/** The credential that these keys are. */
export function credentialOf({ accessKeyId, secretAccessKey }: CephUser): StorageCredential {
  return create(StorageCredentialSchema, { kind: { case: "s3", value: { accessKeyId, secretAccessKey } } });
}

/** A client of the bucket's owner, for what a storage never does: buckets, policies. */
export function ownerClient({ endpoint, region, owner }: CephLab): S3Client {
  return new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    requestChecksumCalculation: "WHEN_REQUIRED",
    credentials: { accessKeyId: owner.accessKeyId, secretAccessKey: owner.secretAccessKey },
  });
}

/** Makes a new bucket and gives its location, by http unless it is said otherwise. */
export async function newBucket(lab: CephLab, changes: MessageInitShape<typeof S3LocationSchema> = {}) {
  const bucket = `test-${randomUUID()}`;
  const client = ownerClient(lab);
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
  const { endpoint, region } = lab;
  return create(S3LocationSchema, { bucket, endpoint, region, ...changes });
}
