// One thing: what a real server refuses, and whom; each case has a bucket, a user or a gateway of its own.

import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectLockConfigurationCommand,
} from "@aws-sdk/client-s3";
import type { S3Location } from "@coppice/proto/gen/coppice/common/v1/location";
import { beforeAll, beforeEach, expect, test } from "vitest";
import { walKey } from "../../agent/src/repository/layout.ts";
import { verifyBackup } from "../../agent/src/repository/verify.ts";
import { verifyWal, walFailure } from "../../agent/src/wal/verify/verify-wal.ts";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import type { CephUser } from "../support/ceph/cluster.ts";
import { type CephLab, openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { credentialOf, littlePatience, newBucket, ownerClient } from "../support/ceph/s3-place.ts";
import { openFaultProxy } from "../support/faults/fault-proxy.ts";
import { storeBackup } from "../support/stored-backup.ts";

const ofBucket = [
  "s3:ListBucket",
  "s3:ListBucketMultipartUploads",
  "s3:GetBucketVersioning",
  "s3:GetBucketObjectLockConfiguration",
];
const signal = new AbortController().signal;
const unavailable = whyNoCephLab();
let lab: CephLab;
let deleter: CephUser;
let reader: CephUser;

beforeAll(async () => {
  if (unavailable !== undefined) return;
  lab = await openCephLab();
  [reader, deleter] = await Promise.all([lab.addUser("only-reads"), lab.addUser("only-deletes")]);
});
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
});

async function* body(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}

type Keys = Readonly<Partial<Record<"write" | "read" | "delete", CephUser>>>;

/** As operations open it: whether a conditional put is kept is not known. */
function open(location: S3Location, keys: Keys = { write: lab.owner }) {
  const credentials = Object.fromEntries(
    Object.entries<CephUser>(keys).map(([purpose, user]) => [purpose, credentialOf(user)]),
  );
  return openS3(location, { operationId: "op_rights", credentials, signal }, littlePatience);
}
type Storage = Awaited<ReturnType<typeof open>>;
const put = (storage: Storage, key: string, text: string, ifAbsent = true) =>
  storage.put(key, body(Buffer.from(text)), { signal, ifAbsent });
const findings = async (storage: Storage) => (await storage.inspect?.("probe/", signal)) ?? [];

async function allow(
  bucket: string,
  rights: readonly (readonly [CephUser, readonly string[]])[],
  keys = "*",
): Promise<void> {
  const arn = `arn:aws:s3:::${bucket}`;
  const statements = rights.map(([{ name }, Action]) => ({
    Effect: "Allow",
    Principal: { AWS: [`arn:aws:iam:::user/${name}`] },
    Action,
    Resource: [arn, `${arn}/${keys}`],
  }));
  await ask((client) =>
    client.send(
      new PutBucketPolicyCommand({
        Bucket: bucket,
        Policy: JSON.stringify({ Version: "2012-10-17", Statement: statements }),
      }),
    ),
  );
}

/** How many versions of each key are stored. */
async function versions(bucket: string): Promise<Record<string, number>> {
  const { Versions = [] } = await ask((client) => client.send(new ListObjectVersionsCommand({ Bucket: bucket })));
  const counts: Record<string, number> = {};
  for (const { Key = "" } of Versions) counts[Key] = (counts[Key] ?? 0) + 1;
  return counts;
}

async function ask<T>(send: (client: ReturnType<typeof ownerClient>) => Promise<T>): Promise<T> {
  const client = ownerClient(lab);
  try {
    return await send(client);
  } finally {
    client.destroy();
  }
}

test("a host with keys to write and to read backs up and cannot delete; one with a key to delete clears up", async () => {
  const location = await newBucket(lab, { prefix: "prod" });
  const [writes, reads] = [["s3:PutObject"], ["s3:GetObject", "s3:ListMultipartUploadParts", ...ofBucket]];
  await allow(location.bucket, [
    [lab.writer, writes],
    [reader, reads],
    [deleter, ["s3:DeleteObject", "s3:AbortMultipartUpload"]],
  ]);
  await using host = await open(location, { write: lab.writer, read: reader, delete: lab.writer });
  await put(host, "a", "one");
  await expect(put(host, "a", "two")).rejects.toMatchObject({ reason: "OBJECT_EXISTS" });
  expect((await host.get("a", { signal })).read).toBeTypeOf("function");
  const trouble = (await findings(host)).filter(({ status }) => status !== "ok");
  expect(trouble.map(({ name }) => name)).toEqual([
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "protection",
    "probe",
    "probe",
  ]);
  for (const keys of [["a"], ["a", "b"]]) {
    await expect(host.deleteMany(keys, signal)).rejects.toMatchObject({
      reason: "REPOSITORY_NOT_WRITABLE",
      message: expect.stringContaining("s3:DeleteObject is refused: AccessDenied") as string,
      hint: expect.stringContaining("allow s3:DeleteObject") as string,
    });
  }
  await using cleaner = await open(location, { write: lab.writer, read: reader, delete: deleter });
  expect((await findings(cleaner))[0]).toMatchObject({ name: "rights", status: "ok" });
  const left = (await Array.fromAsync(cleaner.list("", signal))).map(({ key }) => key);
  expect(await cleaner.deleteMany(left, signal)).toBe(2);
  const uploads = await Array.fromAsync(cleaner.listUnfinished("", signal));
  expect(await cleaner.removeUnfinished(uploads, signal)).toBe(1);
  expect(await Array.fromAsync(host.list("", signal))).toEqual([]);
});

test("a put-only key is found unable to read, list and delete, each by its right", async () => {
  const location = await newBucket(lab);
  await allow(location.bucket, [
    [lab.writer, ["s3:PutObject"]],
    [reader, ["s3:PutObject"]],
  ]);
  await using putOnly = await open(location, { write: lab.writer, read: reader, delete: reader });
  const failed = (await findings(putOnly)).filter(({ status }) => status !== "ok").map(({ name }) => name);
  expect(failed).toEqual(expect.arrayContaining(["s3:GetObject", "s3:ListBucket", "s3:DeleteObject"]));
});

test("a verification that may not read objects calls none of them damaged, unless one is", async () => {
  await using backup = await storeBackup(signal);
  const location = await newBucket(lab);
  await using owner = await open(location);
  for await (const { key } of backup.storage.list("", signal))
    await owner.put(key, await backup.storage.get(key, { signal }), { signal, ifAbsent: true });
  await allow(location.bucket, [[reader, ["s3:GetObject", "s3:ListBucket"]]], `${backup.prefix}manifest.json`);
  await using host = await open(location, { write: reader });
  const verify = () => verifyBackup(host, backup.address, { signal, onProgress: () => {} });
  const denied = await verify();
  expect([denied.result.objects, denied.result.problems.length]).toEqual([1, 6]);
  expect(denied.failure).toMatchObject({
    reason: "REPOSITORY_NOT_READABLE",
    message: expect.stringMatching(/^backup bkp_a in .* could not be read: .*, and 5 more$/) as string,
    hint: expect.stringContaining("allow s3:GetObject") as string,
  });
  const place = { clusterId: "cls_a", systemIdentifier: "7" };
  const key = walKey(place, "000000010000000000000003");
  await owner.put(key, Readable.from([Buffer.from("WAL")]), { signal, ifAbsent: true });
  const expected = [{ timeline: 1, startLsn: 0x3000000n, endLsn: 0x4000000n }];
  const wal = { place, segmentBytes: 1n << 24n, expected, identities: undefined, signal, onProgress: () => {} };
  const unread = await verifyWal(host, wal);
  expect(unread.problems).toMatchObject([{ key, reason: "REPOSITORY_NOT_READABLE", run: undefined }]);
  expect(unread.sound).toEqual([]);
  expect(walFailure(unread, "s3")).toMatchObject({
    reason: "REPOSITORY_NOT_READABLE",
    message: expect.stringContaining("could not be read") as string,
  });
  await owner.deleteMany([`${backup.prefix}db/1.dump.zst.0002`], signal);
  const { result, failure } = await verify();
  expect(result.problems).toHaveLength(6);
  expect(failure).toMatchObject({
    reason: "OBJECT_MISSING",
    message: expect.stringContaining("is damaged") as string,
  });
});

test("a bucket with versions is said to keep them, also by a delete, and its lie about conditions is not believed", async () => {
  const location = await newBucket(lab);
  const VersioningConfiguration = { Status: "Enabled" } as const;
  await ask((client) =>
    client.send(new PutBucketVersioningCommand({ Bucket: location.bucket, VersioningConfiguration })),
  );
  await using storage = await open(location);
  const found = await findings(storage);
  // Ceph before 20 answers 200 to a conditional put here and makes a second version of it.
  expect(found.find(({ name }) => name === "conditional put")).toBeDefined();
  expect(found.find(({ name }) => name === "protection")).toMatchObject({
    status: "ok",
    message: "versioning is on, object lock is off: earlier versions stay until somebody deletes them",
  });
  await put(storage, "a", "one");
  await expect(put(storage, "a", "two")).rejects.toMatchObject({ reason: "OBJECT_EXISTS" });
  await put(storage, "b", "one");
  expect(await storage.deleteMany(["a"], signal)).toBe(1);
  expect(await storage.deleteMany(["a", "b"], signal)).toBe(2);
  expect((await Array.fromAsync(storage.list("", signal))).map(({ key }) => key)).toEqual([]);
  expect(await versions(location.bucket)).toMatchObject({ a: 1, b: 1 });
  expect(await storage.whatStays?.(signal)).toMatch(
    /^the bucket keeps versions: what was deleted is hidden and stays, until/,
  );
  await using plain = await open(await newBucket(lab));
  expect(await plain.whatStays?.(signal)).toBeUndefined();
});

test("a locked bucket is said to be one; a delete hides, and a locked version cannot be deleted by anybody", async () => {
  const bucket = `locked-${randomUUID()}`;
  const DefaultRetention = { Mode: "COMPLIANCE", Days: 1 } as const;
  const ObjectLockConfiguration = { ObjectLockEnabled: "Enabled", Rule: { DefaultRetention } } as const;
  await ask(async (client) => {
    await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: true }));
    await client.send(new PutObjectLockConfigurationCommand({ Bucket: bucket, ObjectLockConfiguration }));
  });
  await using storage = await open({ ...(await newBucket(lab)), bucket });
  expect((await findings(storage)).find(({ name }) => name === "protection")).toMatchObject({
    status: "ok",
    message: "versioning is on, object lock is on (COMPLIANCE 1 days)",
  });
  await put(storage, "a", "one");
  expect(await storage.deleteMany(["a"], signal)).toBe(1);
  expect(await storage.stat("a", signal)).toBeUndefined();
  expect(await storage.whatStays?.(signal)).toContain("by its lock for COMPLIANCE 1 days at least");
  const kept = await ask((client) => client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: "a" })));
  const { Key, VersionId } = kept.Versions?.[0] ?? {};
  const removing = ask((client) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key, VersionId })));
  await expect(removing).rejects.toMatchObject({ name: "AccessDenied" });
});

test.each([
  [501, "NotImplemented"],
  [405, "MethodNotAllowed"],
])("a server that answers %i to a delete of many is given them one by one", async (status, code) => {
  const location = await newBucket(lab);
  await using proxy = await openFaultProxy(lab.endpoint);
  await using storage = await open({ ...location, endpoint: proxy.endpoint });
  await Promise.all(["a", "b", "c", "d"].map((key) => put(storage, key, key)));
  const body = `<Error><Code>${code}</Code></Error>`;
  proxy.rule = ({ method, url }) =>
    method === "POST" && url.includes("delete") ? { is: "answer", status, body } : undefined;
  expect(await storage.deleteMany(["a", "b", "c"], signal)).toBe(3);
  expect(proxy.requests.filter((one) => one.startsWith("DELETE "))).toHaveLength(3);
  expect((await Array.fromAsync(storage.list("", signal))).map(({ key }) => key)).toEqual(["d"]);
});

test("a user who is suspended is said to be, while at work and when it begins", async () => {
  const user = await lab.addUser("suspended");
  const location = await newBucket({ ...lab, owner: user });
  await using storage = await open(location, { write: user });
  await put(storage, "a", "one");
  await lab.radosgwAdmin(["user", "suspend", "--uid=suspended"]);
  const suspended = {
    reason: "REPOSITORY_CREDENTIALS_REFUSED",
    message: expect.stringContaining("the user of this key is suspended: UserSuspended, HTTP 403") as string,
    hint: expect.stringContaining("enabled again") as string,
  };
  await expect(put(storage, "b", "one", false)).rejects.toMatchObject(suspended);
  await expect(put(storage, "b", "one")).rejects.toMatchObject(suspended);
  await expect(storage.deleteMany(["a", "b"], signal)).rejects.toMatchObject(suspended);
  await expect(open(location, { write: user })).rejects.toMatchObject(suspended);
});

test("a server that turns requests away for a while is waited for", async () => {
  await using gateway = await lab.startGateway(["--rgw_max_concurrent_requests=1"]);
  await using proxy = await openFaultProxy(gateway.endpoint);
  await using storage = await open({ ...(await newBucket(lab)), endpoint: proxy.endpoint });
  const keys = Array.from({ length: 12 }, (_, index) => `busy/${index}`);
  await Promise.all(keys.map((key) => put(storage, key, "x", false)));
  expect(proxy.statuses).toContain(503);
  expect((await Array.fromAsync(storage.list("busy/", signal))).map(({ key }) => key)).toEqual(keys.toSorted());
});

test("a server that does not know a key any more that it took before is asked again, for a while", async () => {
  const location = await newBucket(lab);
  await using proxy = await openFaultProxy(lab.endpoint);
  await using storage = await open({ ...location, endpoint: proxy.endpoint });
  await put(storage, "a", "one", false);
  const stalled = { is: "answer", status: 403, body: "<Error><Code>InvalidAccessKeyId</Code></Error>" } as const;
  proxy.rule = ({ method, earlier }) => (method === "PUT" && earlier < 2 ? stalled : undefined);
  await put(storage, "b", "two", false);
  expect(proxy.requests.filter((one) => one.startsWith("PUT ") && one.includes("/b"))).toHaveLength(3);
  proxy.rule = ({ method }) => (method === "PUT" ? stalled : undefined);
  await expect(put(storage, "c", "three", false)).rejects.toMatchObject({
    reason: "REPOSITORY_CREDENTIALS_REFUSED",
    message: expect.stringContaining("took this access key before and knows it no more") as string,
  });
});
