import { GetBucketVersioningCommand, GetObjectLockConfigurationCommand } from "@aws-sdk/client-s3";
import type { Bucket } from "../bucket.ts";
import { send } from "../request.ts";

/** What a bucket keeps of objects that are replaced or deleted; "unknown" where nobody may look. */
export interface Protection {
  readonly versioning: "on" | "suspended" | "off" | "unknown";
  readonly objectLock: "on" | "off" | "unknown";
  /** The lock that new objects get by themselves, such as "COMPLIANCE 30 days". */
  readonly lockRule: string | undefined;
}

/** Asks for both. Fails as a request does when the server does not answer. */
export async function readProtection(bucket: Bucket, signal: AbortSignal): Promise<Protection> {
  return { versioning: await versioningOf(bucket, signal), ...(await lockOf(bucket, signal)) };
}

/** What stays of an object that was deleted, for people to read; undefined where nothing does, or nobody may look. */
export async function whatStays(bucket: Bucket, signal: AbortSignal): Promise<string | undefined> {
  const { versioning, objectLock, lockRule } = await readProtection(bucket, signal);
  if (versioning !== "on") return undefined;
  const lock = objectLock === "on" && lockRule !== undefined ? `, by its lock for ${lockRule} at least` : "";
  return `the bucket keeps versions: what was deleted is hidden and stays${lock}, until a lifecycle rule or somebody removes older versions`;
}

async function versioningOf(bucket: Bucket, signal: AbortSignal): Promise<Protection["versioning"]> {
  const kind = { purpose: "read", doing: "read", action: "s3:GetBucketVersioning", key: "" } as const;
  const target = { Bucket: bucket.location.bucket };
  const answer = await send(
    bucket,
    kind,
    signal,
    (client, options) => client.send(new GetBucketVersioningCommand(target), options),
    async ({ status }) => (status !== undefined && status < 500 ? "unknown" : undefined),
  );
  if (answer === "unknown") return answer;
  return answer.Status === "Enabled" ? "on" : answer.Status === "Suspended" ? "suspended" : "off";
}

async function lockOf(bucket: Bucket, signal: AbortSignal): Promise<Omit<Protection, "versioning">> {
  const kind = { purpose: "read", doing: "read", action: "s3:GetBucketObjectLockConfiguration", key: "" } as const;
  const target = { Bucket: bucket.location.bucket };
  const answer = await send(
    bucket,
    kind,
    signal,
    (client, options) => client.send(new GetObjectLockConfigurationCommand(target), options),
    // Ceph answers 409 where others answer 404 to a bucket without.
    async ({ status, code }) =>
      code === "ObjectLockConfigurationNotFoundError" || status === 409
        ? "off"
        : status !== undefined && (status < 500 || status === 501)
          ? "unknown"
          : undefined,
  );
  if (answer === "off" || answer === "unknown") return { objectLock: answer, lockRule: undefined };
  const { ObjectLockEnabled, Rule } = answer.ObjectLockConfiguration ?? {};
  const { Mode, Days, Years } = Rule?.DefaultRetention ?? {};
  const lockRule = Mode && `${Mode} ${Years === undefined ? `${Days} days` : `${Years} years`}`;
  return { objectLock: ObjectLockEnabled === "Enabled" ? "on" : "off", lockRule };
}
