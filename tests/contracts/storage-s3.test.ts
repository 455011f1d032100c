import { Agent, request } from "node:http";
import { PutBucketPolicyCommand } from "@aws-sdk/client-s3";
import type { S3Location } from "@coppice/proto/gen/coppice/common/v1/location";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import { type CephLab, openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, newBucket, ownerClient } from "../support/ceph/s3-place.ts";
import { describeStorage } from "./storage.ts";

const signal = new AbortController().signal;
const schemes = ["http", "https"] as const;

/** The bucket that each scheme lists; thousands of requests once are enough. */
let filled: S3Location | undefined;

for (const scheme of schemes) {
  describeStorage(
    `a bucket by ${scheme}`,
    async () => {
      const lab = await openCephLab();
      const tls = scheme === "https" ? { endpoint: lab.tlsEndpoint, caPem: lab.caPem } : {};
      const location = await newBucket(lab, scheme === "https" ? { ...tls, prefix: "some/prefix" } : {});
      const credentials = { write: credentialOf(lab.owner) };
      const access = (operationId: string) => ({ operationId, credentials, conditionalPut: true, signal });
      return {
        longestKeyBytes: 1024 - (location.prefix === "" ? 0 : location.prefix.length + 1),
        open: (operationId) => openS3(location, access(operationId)),
        listing: {
          isLast: scheme === schemes.at(-1),
          async open(keys) {
            filled ??= await fill(lab, keys);
            // A thousand deletions are one request, which is long on a busy server.
            return await openS3({ ...filled, ...tls }, access("op_listing"));
          },
        },
        async [Symbol.asyncDispose]() {},
      };
    },
    whyNoCephLab(),
  );
}

/** Makes a bucket with an object of one byte below each key. Anybody may put there: signatures are not what it tries. */
async function fill(lab: CephLab, keys: readonly string[]): Promise<S3Location> {
  const location = await newBucket(lab, { prefix: "filled" });
  const { bucket, prefix, endpoint } = location;
  const Resource = `arn:aws:s3:::${bucket}/*`;
  const Statement = [{ Effect: "Allow", Principal: "*", Action: "s3:PutObject", Resource }];
  const client = ownerClient(lab);
  const Policy = JSON.stringify({ Version: "2012-10-17", Statement });
  await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  client.destroy();
  const agent = new Agent({ keepAlive: true });
  const put = (key: string) =>
    new Promise<void>((resolve, reject) => {
      const url = `${endpoint}/${bucket}/${prefix}/${key}`;
      const putting = request(url, { method: "PUT", agent, headers: { "content-length": 1 } }, (answer) => {
        answer.resume().on("end", () => {
          if (answer.statusCode === 200) resolve();
          else reject(new Error(`PUT ${key}: HTTP ${answer.statusCode}`));
        });
      });
      putting.on("error", reject).end("x");
    });
  const waiting = keys.values();
  const putAll = async () => {
    for (const key of waiting) await put(key);
  };
  await Promise.all(Array.from({ length: 32 }, putAll));
  agent.destroy();
  return location;
}
