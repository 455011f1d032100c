import { PutObjectCommand } from "@aws-sdk/client-s3";
import type { Bucket } from "../bucket.ts";
import { send } from "../request.ts";

/**
 * Whether this very bucket keeps a put from replacing an object: puts the probe object of that key twice, the second
 * time on condition that it is not there. The object stays. Fails as a put does.
 */
export async function probeConditionalPut(bucket: Bucket, key: string, signal: AbortSignal): Promise<boolean> {
  const put = (condition: { IfNoneMatch?: string }) =>
    send(
      bucket,
      { purpose: "write", doing: "write", action: "s3:PutObject", key },
      signal,
      async (client, options) => {
        const target = {
          Bucket: bucket.location.bucket,
          Key: bucket.prefix + key,
          Body: "coppice probes conditions\n",
        };
        await client.send(new PutObjectCommand({ ...target, ...condition }), options);
        return "taken" as const;
      },
      async ({ status }) => (condition.IfNoneMatch && (status === 412 || status === 501) ? status : undefined),
    );
  await put({});
  return (await put({ IfNoneMatch: "*" })) === 412;
}
