// One thing: how a bucket behaves when its server does not; the cases share one server, bucket and proxy.

import { randomBytes } from "node:crypto";
import { PutBucketPolicyCommand } from "@aws-sdk/client-s3";
import { isFailure } from "@coppice/proto/kit/failure";
import type { S3Location } from "@coppice/proto/gen/coppice/common/v1/location";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { openS3 } from "../../agent/src/storage/s3/s3.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { type CephLab, openCephLab, whyNoCephLab } from "../support/ceph/lab.ts";
import { type FaultProxy, openFaultProxy } from "../support/faults/fault-proxy.ts";
import { credentialOf, littlePatience, newBucket, ownerClient } from "../support/ceph/s3-place.ts";

const signal = new AbortController().signal;
const twoParts = randomBytes(9 << 20);

let lab: CephLab;
let location: S3Location;
let proxy: FaultProxy;
let storage: Storage;

const open = (changes: Partial<S3Location> = {}, user = lab.owner, conditionalPut = true) => {
  const credentials = { write: credentialOf(user) };
  const access = { operationId: "op_faults", credentials, conditionalPut, signal };
  return openS3({ ...location, ...changes }, access, littlePatience);
};

async function* body(...chunks: Uint8Array[]): AsyncGenerator<Uint8Array, void> {
  yield* chunks;
}
const put = (key: string, bytes: Uint8Array, ifAbsent = true) => storage.put(key, body(bytes), { signal, ifAbsent });
async function read(from: Storage, key: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of (await from.get(key, { signal })) as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
const unfinished = () => Array.fromAsync(storage.listUnfinished("", signal));

const unavailable = whyNoCephLab();

beforeAll(async () => {
  if (unavailable !== undefined) return;
  lab = await openCephLab();
  location = await newBucket(lab);
  proxy = await openFaultProxy(lab.endpoint);
  storage = await open({ endpoint: proxy.endpoint });
});
beforeEach(({ skip }) => {
  if (unavailable !== undefined) skip(unavailable);
  proxy.rule = () => undefined;
  proxy.requests.length = 0;
});
afterAll(async () => {
  if (unavailable !== undefined) return;
  await storage[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
});

test("a part that fails is sent again alone, whatever way it failed", async () => {
  const faults = [
    { is: "answer", status: 503, body: "<Error><Code>SlowDown</Code></Error>" },
    { is: "answer", status: 500, body: "<Error><Code>InternalError</Code></Error>" },
    { is: "drop" },
    { is: "drop-answer" },
  ] as const;
  proxy.rule = ({ method, url, earlier }) =>
    method === "PUT" && url.includes("partNumber=2") ? faults[earlier] : undefined;
  expect(await put("parts/a", twoParts)).toEqual({ sizeBytes: twoParts.length });
  const parts = proxy.requests.filter((one) => one.includes("partNumber"));
  expect(parts.filter((one) => one.includes("partNumber=1"))).toHaveLength(1);
  expect(parts.filter((one) => one.includes("partNumber=2"))).toHaveLength(5);
  expect((await read(storage, "parts/a")).equals(twoParts)).toBe(true);
});

test("a server that is down for good fails in bounded time, and the upload is aborted when it can be", async () => {
  proxy.rule = ({ method, url }) =>
    method === "PUT" && url.includes("partNumber=2") ? { is: "answer", status: 500 } : undefined;
  await expect(put("down/a", twoParts)).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
  expect(await unfinished()).toEqual([]);
  expect(await storage.stat("down/a", signal)).toBeUndefined();
});

test("an error in the 200 of a completion is an error, and is repeated", async () => {
  const inside = {
    is: "answer",
    status: 200,
    body: "<Error><Code>InternalError</Code><Message>no</Message></Error>",
  } as const;
  proxy.rule = ({ method, earlier }) => (method === "POST" && earlier === 1 ? inside : undefined);
  expect(await put("inside/a", twoParts)).toEqual({ sizeBytes: twoParts.length });
  proxy.rule = ({ method, url }) => (method === "POST" && url.includes("uploadId=") ? inside : undefined);
  await expect(put("inside/b", twoParts)).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
  expect(await storage.stat("inside/b", signal)).toBeUndefined();
  expect(await unfinished()).toEqual([]);
});

test("a completion whose answer was lost is found done, and not done twice", async () => {
  proxy.rule = ({ method, url }) =>
    method === "POST" && url.includes("uploadId=") ? { is: "drop-answer" } : undefined;
  expect(await put("lost/a", twoParts)).toEqual({ sizeBytes: twoParts.length });
  expect(proxy.requests.filter((one) => one.startsWith("POST") && one.includes("uploadId="))).toHaveLength(1);
  expect((await read(storage, "lost/a")).equals(twoParts)).toBe(true);
});

test("a conditional put whose answer was lost knows its own object, and not another's", async () => {
  proxy.rule = ({ method, earlier }) => (method === "PUT" && earlier === 0 ? { is: "drop-answer" } : undefined);
  expect(await put("own/a", Buffer.from("mine"))).toEqual({ sizeBytes: 4 });
  proxy.rule = ({ method }) => (method === "PUT" ? { is: "drop-answer" } : undefined);
  await expect(put("own/a", Buffer.from("other"))).rejects.toBeDefined();
  expect((await read(storage, "own/a")).toString()).toBe("mine");
});

test("a body that is cut goes on where it was, and one that is cut for ever fails", async () => {
  await put("cut/a", twoParts);
  proxy.rule = ({ method, url, earlier }) =>
    method === "GET" && url.includes("cut/a") && earlier < 3 ? { is: "cut-answer", afterBytes: 2_500_000 } : undefined;
  expect((await read(storage, "cut/a")).equals(twoParts)).toBe(true);
  expect(proxy.requests.filter((one) => one.startsWith("GET"))).toHaveLength(4);
  proxy.rule = ({ method, earlier }) =>
    method === "GET" ? (earlier === 0 ? { is: "cut-answer", afterBytes: 2_500_000 } : { is: "drop" }) : undefined;
  await expect(read(storage, "cut/a")).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
});

test("an object that is replaced while a cut body goes on is an error, never a mixture", async () => {
  await put("replaced/a", twoParts);
  proxy.rule = ({ method }) => (method === "GET" ? { is: "cut-answer", afterBytes: 2_500_000 } : undefined);
  const reader = await storage.get("replaced/a", { signal });
  await put("replaced/a", randomBytes(9 << 20), false);
  const reading = (async () => {
    for await (const _ of reader);
  })();
  await expect(reading).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
});

test(
  "a server that hangs is unreachable in bounded time, and an abort settles at once",
  { timeout: 60_000 },
  async () => {
    await using gateway = await lab.startGateway();
    // What it has begun when it goes on stays in this bucket.
    const { bucket } = await newBucket(lab);
    await using hanging = await open({ bucket, endpoint: gateway.endpoint });
    await hanging.put("hang/a", body(twoParts), { signal, ifAbsent: false });
    const reader = await hanging.get("hang/a", { signal });
    gateway.signal("SIGSTOP");
    const unreachable = { reason: "REPOSITORY_UNREACHABLE" };
    const startedAt = performance.now();
    await Promise.all([
      expect(hanging.put("hang/b", body(Buffer.from("x")), { signal, ifAbsent: true })).rejects.toMatchObject(
        unreachable,
      ),
      expect(hanging.put("hang/c", body(twoParts), { signal, ifAbsent: true })).rejects.toMatchObject(unreachable),
      expect(hanging.get("hang/a", { signal })).rejects.toMatchObject(unreachable),
      expect(hanging.stat("hang/a", signal)).rejects.toMatchObject(unreachable),
      expect(hanging.deleteMany(["hang/a"], signal)).rejects.toMatchObject(unreachable),
      expect(Array.fromAsync(hanging.list("", signal))).rejects.toMatchObject(unreachable),
    ]);
    expect(performance.now() - startedAt).toBeLessThan(20_000);
    reader.destroy();
    const reason = new Error("not wanted");
    const controller = new AbortController();
    const stuck = hanging.stat("hang/a", controller.signal);
    const abortedAt = performance.now();
    controller.abort(reason);
    await expect(stuck).rejects.toBe(reason);
    expect(performance.now() - abortedAt).toBeLessThan(1000);
    gateway.signal("SIGCONT");
  },
);

test("what is wrong with the place or the key is told when it is opened", async () => {
  const stranger = { ...lab.owner, accessKeyId: "NOBODY" };
  const liar = { ...lab.owner, secretAccessKey: "wrong" };
  await expect(open({}, stranger)).rejects.toMatchObject({
    reason: "REPOSITORY_CREDENTIALS_REFUSED",
    metadata: { code: "InvalidAccessKeyId" },
  });
  await expect(open({}, liar)).rejects.toMatchObject({ metadata: { code: "SignatureDoesNotMatch" } });
  await expect(open({ bucket: "not-there" })).rejects.toMatchObject({
    reason: "REPOSITORY_UNREACHABLE",
    metadata: { code: "NoSuchBucket" },
  });
  await expect(open({ endpoint: lab.tlsEndpoint })).rejects.toMatchObject({ reason: "REPOSITORY_UNREACHABLE" });
  await expect(open({ endpoint: "http://127.0.0.1:1" })).rejects.toMatchObject({ metadata: { code: "ECONNREFUSED" } });
  await expect(open({ storageClass: "DEEP_ARCHIVE" })).rejects.toMatchObject({ reason: "REPOSITORY_SETTINGS_REFUSED" });
});

test("encryption that was asked for and not done is refused, and nothing stays", async () => {
  await using plain = await open({ serverSideEncryption: "AES256" });
  for (const [key, bytes] of [
    ["sse/a", Buffer.from("x")],
    ["sse/b", twoParts],
  ] as const) {
    await expect(plain.put(key, body(bytes), { signal, ifAbsent: true })).rejects.toMatchObject({
      reason: "REPOSITORY_SETTINGS_REFUSED",
    });
  }
  expect(await Array.fromAsync(storage.list("sse/", signal))).toEqual([]);
  expect(await unfinished()).toEqual([]);
});

test("a clock that is off is told with both times", async () => {
  const now = Date.now();
  vi.useFakeTimers({ toFake: ["Date"] });
  try {
    for (const minutes of [20, -20]) {
      vi.setSystemTime(now + minutes * 60_000);
      await expect(open()).rejects.toMatchObject({
        reason: "REPOSITORY_CLOCK_SKEWED",
        message: expect.stringMatching(/the clock here says \d{4}-\S+, the server's \d{4}-/) as string,
      });
    }
  } finally {
    vi.useRealTimers();
  }
});

test("each missing right is named, as are the bucket's protections", async () => {
  const client = ownerClient(lab);
  const arn = `arn:aws:s3:::${location.bucket}`;
  const allow = (Action: string[]) => ({
    Effect: "Allow",
    Principal: { AWS: ["arn:aws:iam:::user/writer"] },
    Action,
    Resource: [arn, `${arn}/*`],
  });
  const policy = { Version: "2012-10-17", Statement: [allow(["s3:PutObject", "s3:ListBucket"])] };
  await client.send(new PutBucketPolicyCommand({ Bucket: location.bucket, Policy: JSON.stringify(policy) }));
  client.destroy();
  await using limited = await open({}, lab.writer);
  const findings = (await limited.inspect?.("probe/", signal)) ?? [];
  const failed = findings.filter(({ status }) => status !== "ok").map(({ name }) => name);
  expect(failed).toContain("s3:DeleteObject");
  await expect(limited.deleteMany(["some/key", "other/key"], signal)).rejects.toMatchObject({
    reason: "REPOSITORY_NOT_WRITABLE",
    message: expect.stringContaining("s3:DeleteObject") as string,
  });
  const own = (await storage.inspect?.("probe/", signal)) ?? [];
  expect(own.find(({ name }) => name === "rights")).toMatchObject({ status: "ok" });
});

test("a user whose quota is used up is told so", async () => {
  const user = await lab.addUser("full");
  const own = await newBucket({ ...lab, owner: user });
  await lab.radosgwAdmin(["quota", "set", "--quota-scope=user", "--uid=full", "--max-size=1K"]);
  await lab.radosgwAdmin(["quota", "enable", "--quota-scope=user", "--uid=full"]);
  await using full = await open(own, user);
  const putting = full.put("a", body(Buffer.alloc(100_000)), { signal, ifAbsent: true });
  await expect(putting).rejects.toSatisfy((error) => isFailure(error, "REPOSITORY_FULL"));
});
